//! A node's command line, as `bench/peers/README.md` has it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::exit;
use std::str::FromStr;

/// Exit code for a command line that this peer can't follow.
const REFUSED: i32 = 2;

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Args {
    /// This node, from 1.
    pub id: u64,
    /// The nodes' addresses; node `id` is at `id - 1`.
    pub addresses: Vec<SocketAddr>,
    pub data_dir: PathBuf,
    /// Bytes of an operation.
    pub payload: usize,
    /// Operations in flight, over all groups and nodes.
    pub inflight: usize,
    pub groups: usize,
    /// Operations per second over all groups and nodes; a closed loop without.
    pub rate: Option<f64>,
}

impl Args {
    /// Parses the process's command line; says what is wrong and exits when it can't be followed.
    #[must_use]
    pub fn parse(many_groups: bool) -> Self {
        Self::try_parse(std::env::args().skip(1), many_groups).unwrap_or_else(|message| {
            eprintln!("{message}");
            exit(REFUSED)
        })
    }

    fn try_parse(
        mut words: impl Iterator<Item = String>,
        many_groups: bool,
    ) -> Result<Self, String> {
        let (mut id, mut addresses, mut data_dir, mut payload) = (None, None, None, None);
        let (mut inflight, mut groups, mut rate) = (None, None, None);
        while let Some(name) = words.next() {
            let value = words.next().ok_or(format!("{name} needs a value"))?;
            match name.as_str() {
                "--id" => id = Some(parse(&name, &value)?),
                "--addresses" => {
                    let each = value.split(',').map(|word| parse(&name, word));
                    addresses = Some(each.collect::<Result<Vec<SocketAddr>, _>>()?);
                }
                "--data-dir" => data_dir = Some(PathBuf::from(value)),
                "--payload" => payload = Some(parse(&name, &value)?),
                "--inflight" => inflight = Some(parse(&name, &value)?),
                "--groups" => groups = Some(parse(&name, &value)?),
                "--rate" => rate = Some(parse(&name, &value)?),
                "--option" => return Err(format!("this peer has no option {value}")),
                _ => return Err(format!("unknown argument {name}")),
            }
        }
        let missing = |name| format!("{name} is missing");
        let args = Self {
            id: id.ok_or(missing("--id"))?,
            addresses: addresses.ok_or(missing("--addresses"))?,
            data_dir: data_dir.ok_or(missing("--data-dir"))?,
            payload: payload.ok_or(missing("--payload"))?,
            inflight: inflight.ok_or(missing("--inflight"))?,
            groups: groups.ok_or(missing("--groups"))?,
            rate,
        };
        let nodes = args.addresses.len() as u64;
        let wrong = if args.id == 0 || args.id > nodes {
            "--id is not a place in --addresses"
        } else if args.payload < 8 {
            "--payload is less than the 8 bytes of a number"
        } else if args.inflight == 0 || args.groups == 0 {
            "--inflight and --groups are at least 1"
        } else if args.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            "--rate is more than 0"
        } else if args.groups > 1 && !many_groups {
            "this peer has one group"
        } else {
            return Ok(args);
        };
        Err(wrong.into())
    }

    /// The ids of the other nodes.
    pub fn others(&self) -> impl Iterator<Item = u64> {
        (1..=self.addresses.len() as u64).filter(|&id| id != self.id)
    }

    /// Where a node listens.
    #[must_use]
    pub fn address(&self, id: u64) -> SocketAddr {
        self.addresses[id as usize - 1]
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name} can't be {value}"))
}

#[cfg(test)]
mod tests {
    use super::Args;

    fn parse(line: &str, many_groups: bool) -> Result<Args, String> {
        Args::try_parse(line.split(' ').map(String::from), many_groups)
    }

    const LINE: &str = "--id 2 --addresses 127.0.0.1:7010,127.0.0.1:7020 --data-dir d --payload 16 \
                        --inflight 64 --groups 2";

    #[test]
    fn follows_the_contract() {
        let args = parse(&format!("{LINE} --rate 1000"), true).unwrap();
        assert_eq!((args.id, args.payload, args.inflight, args.groups), (2, 16, 64, 2));
        assert_eq!(args.rate, Some(1000.0));
        assert_eq!(args.others().collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn refuses_what_it_can_not_do() {
        assert_eq!(parse(LINE, false).unwrap_err(), "this peer has one group");
        assert!(parse(&format!("{LINE} --option sync=off"), true).is_err());
        assert!(parse(&format!("{LINE} --payload 7"), true).is_err());
        assert!(parse(&format!("{LINE} --id 3"), true).is_err());
        assert!(parse("--id 1", true).is_err());
    }
}
