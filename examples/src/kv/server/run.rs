//! Starting and stopping a server.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures_lite::future::block_on;
use ringleader::report::Exporter;
use ringleader::{Engine, Handle, Local};
use socket2::SockRef;

use super::clock::SteadyClock;
use super::config::Config;
use super::shard::{Node, Shard, machine};
use super::stats::Stats;
use super::topology::Topology;
use super::{http, listen, pump};
use crate::kv::keyspace::Keyspace;
use crate::kv::slot::Layout;

/// How often keys are looked for whose time has come, and leaders for commands that wait for one.
const BEAT: Duration = Duration::from_millis(10);

/// Connections that may wait to be taken. Those beyond try again after a second.
const WAITING: i32 = 4096;

/// How often connections are looked at that get nowhere.
const SWEEP: Duration = Duration::from_secs(1);

/// A server that runs. Dropping it shuts it down.
pub struct Running {
    // These go first: they ask the engine.
    _http: Option<Exporter>,
    _balance: Option<Balance>,
    engine: Engine,
}

/// Starts a server: its engine, and everything that listens.
///
/// # Errors
/// Why it did not start; nothing keeps running.
pub fn start(config: &Config) -> anyhow::Result<Running> {
    config.check().map_err(anyhow::Error::msg)?;
    raise_descriptor_limit();
    let this = config.this().map_err(anyhow::Error::msg)?;
    let layout = Layout::new(config.groups).map_err(anyhow::Error::msg)?;
    // Before anything can be led here, and before others wait for this node's answer.
    let clock = clock(config);
    let sockets = Sockets::bind(config)?;
    let engine_config = config.engine();
    let node = Arc::new(Node {
        settings: config.settings(),
        topology: Topology::new(engine_config.node, layout),
        clock,
        stats: (0..this.shards).map(|_| Stats::default()).collect(),
    });
    let of_factory = Arc::clone(&node);
    let engine = Engine::start(engine_config, move |group| machine(&of_factory, group))?;
    node.topology.connect(engine.handle());
    sockets.serve(&engine.handle(), &node)?;
    let http = config.http_listen.map(|address| {
        http::serve(address, engine.handle(), Arc::clone(&node))
            .with_context(|| format!("serving the status page at {address}"))
    });
    let interval = Some(Duration::from_secs(config.rebalance_seconds));
    let interval = interval.filter(|interval| !interval.is_zero());
    let balance = interval.map(|interval| Balance::start(interval, engine.handle())).transpose()?;
    Ok(Running { _http: http.transpose()?, _balance: balance, engine })
}

fn clock(config: &Config) -> SteadyClock {
    let others = config.nodes.iter().filter(|node| node.id != config.node);
    let others: Vec<SocketAddr> = others.map(|node| node.address).collect();
    SteadyClock::among(&others, config.password.as_deref())
}

impl Running {
    /// The engine's handle.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.engine.handle()
    }

    /// Hands the groups that this node leads to others, and stops.
    pub fn shutdown(self) {
        let Self { _http, _balance, engine } = self;
        drop((_http, _balance));
        engine.shutdown();
    }
}

/// Spreads leaders over the nodes from time to time, on a thread of its own, until it is dropped.
struct Balance {
    /// Nothing is ever sent.
    _stop: mpsc::Sender<()>,
}

impl Balance {
    fn start(interval: Duration, handle: Handle) -> io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let balance = move || {
            while stopped.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Each node hands over what it leads itself, so all of them together do it all.
                let Ok(moves) = block_on(handle.rebalance()) else { return };
                moves.iter().filter(|(_, moved)| moved.is_some()).for_each(|(moved, _)| {
                    tracing::info!(group = %moved.group, to = %moved.to, "a leadership moves");
                });
            }
        };
        std::thread::Builder::new().name("kv-balance".into()).spawn(balance)?;
        Ok(Self { _stop: stop })
    }
}

/// What clients connect to: bound before the engine starts, so that a port that is taken is known at
/// once.
struct Sockets {
    /// Of each shard.
    cluster: Vec<TcpListener>,
    plain: Option<TcpListener>,
}

impl Sockets {
    fn bind(config: &Config) -> anyhow::Result<Self> {
        let this = config.this().map_err(anyhow::Error::msg)?;
        let ip = config.listen.unwrap_or(this.address.ip());
        let port = |shard: u32| this.address.port() + shard as u16;
        let cluster = (0..this.shards).map(|shard| bind(SocketAddr::new(ip, port(shard))));
        Ok(Self {
            cluster: cluster.collect::<Result<_, _>>()?,
            plain: config.plain_listen.map(bind).transpose()?,
        })
    }

    fn serve(self, handle: &Handle, node: &Arc<Node>) -> anyhow::Result<()> {
        for (shard, cluster) in (0..).zip(self.cluster) {
            let plain = self.plain.as_ref().map(TcpListener::try_clone).transpose()?;
            let node = Arc::clone(node);
            handle.spawn_on(shard, move |local| serve(local, node, cluster, plain))?;
        }
        Ok(())
    }
}

fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listen = || {
        let listener = TcpListener::bind(address)?;
        // Once more, with a longer queue than the standard library's.
        SockRef::from(&listener).listen(WAITING)?;
        listener.set_nonblocking(true)?;
        io::Result::Ok(listener)
    };
    listen().with_context(|| format!("listening for clients on {address}"))
}

/// A shard's side of it.
async fn serve(local: Local, node: Arc<Node>, cluster: TcpListener, plain: Option<TcpListener>) {
    let shard = Shard::new(local, node);
    shard.local.spawn(pump::run(Rc::clone(&shard)));
    shard.local.spawn(listen::accept(Rc::clone(&shard), cluster, false));
    if let Some(plain) = plain {
        shard.local.spawn(listen::accept(Rc::clone(&shard), plain, true));
    }
    keep(&shard).await;
}

/// What is done from time to time, whatever clients do.
async fn keep(shard: &Rc<Shard>) {
    let mut swept = Instant::now();
    loop {
        shard.local.sleep(BEAT).await;
        let now = shard.node.clock.now();
        for (place, group) in shard.groups() {
            group.watch(now);
            if !group.ticking.get() && shard.leads(place) && group.wants_tick(now) {
                shard.pump.tick(shard, place, now);
            }
        }
        shard.pump.nudge();
        shard.retry_leaderless();
        shard.send_held();
        shard.check_buffers();
        if swept.elapsed() >= SWEEP {
            swept = Instant::now();
            sweep(shard);
        }
    }
}

fn sweep(shard: &Shard) {
    let patience = shard.node.settings.stalled;
    for (_, client) in shard.clients.borrow().iter() {
        if client.stalled.get().is_some_and(|since| since.elapsed() > patience) {
            shard.stats().clients_stalled.add(1);
            client.killed.set(true);
            client.wake();
        }
    }
    shard.check_links();
    let keys: usize = shard.groups().map(|(_, group)| group.replica.with(Keyspace::keys)).sum();
    shard.stats().keys.set(keys as u64);
    shard.stats().memory.set(shard.account.used() as u64);
}

/// Each client takes a descriptor; as many as the system lets us have.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read and write the one structure that they are given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
