//! A node: what its engine and its load share, and the commands that it follows.

use std::io::stdin;
use std::process::exit;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use serde_json::{Map, Value, json};

use crate::args::Args;
use crate::load::{Load, Order};
use crate::machine::Machines;
use crate::operation::{Completions, Engine};
use crate::roles::Roles;

/// What the engine's threads, the load's and the one that reads commands share.
#[derive(Debug)]
pub struct Node {
    pub args: Args,
    pub machines: Machines,
    pub roles: Roles,
    pub completions: Completions,
}

impl Node {
    #[must_use]
    pub fn new(args: Args) -> Arc<Self> {
        Arc::new(Self {
            machines: Machines::new(args.groups),
            roles: Roles::new(args.id, args.groups),
            completions: Completions::default(),
            args,
        })
    }

    /// Says that the node is ready, and follows the commands on standard input; ends the process
    /// with their end.
    ///
    /// # Panics
    /// When standard input can't be read.
    pub fn serve(self: Arc<Self>, ready: &Ready<'_>, engine: impl Engine + 'static) -> ! {
        let (orders, taken) = channel();
        let load = Load::new(self.clone(), engine, taken);
        let loading = thread::Builder::new().name("load".into()).spawn(|| load.run());
        loading.expect("a thread can be started");
        println!("{}", ready.report());
        for line in stdin().lines() {
            self.follow(line.expect("standard input can be read").trim(), &orders);
        }
        exit(0)
    }

    fn follow(&self, command: &str, orders: &Sender<Order>) {
        let order = match command {
            "roles" => {
                let leads: Vec<usize> = self.roles.led().iter().map(|group| group + 1).collect();
                println!("{}", json!({"roles": {"leads": leads, "known": self.roles.known()}}));
                return;
            }
            "applied" => {
                let (count, hash) = self.machines.total();
                println!(
                    "{}",
                    json!({"applied": {"count": count, "hash": format!("{hash:016x}")}})
                );
                return;
            }
            "load" => Order::Load,
            "measure" => Order::Measure,
            "end" => Order::End,
            _ => {
                eprintln!("unknown command {command:?}");
                return;
            }
        };
        orders.send(order).expect("the load lives as long as the process");
        self.completions.wake();
    }
}

/// How a peer introduces itself.
#[derive(Clone, Copy, Debug)]
pub struct Ready<'a> {
    pub name: &'a str,
    pub version: &'a str,
    /// Settings that differ from the peer's defaults, and their values.
    pub settings: &'a [(&'a str, String)],
}

impl Ready<'_> {
    fn report(&self) -> Value {
        let setting = |(name, value): &(&str, String)| ((*name).into(), value.as_str().into());
        let settings: Map<String, Value> = self.settings.iter().map(setting).collect();
        json!({"ready": {
            "name": self.name, "version": self.version, "durable": true, "settings": settings,
        }})
    }
}
