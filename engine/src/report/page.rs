//! How a report's numbers become families of metrics.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::prometheus::{
    GROUP_COUNTERS, GROUP_GAUGES, GROUP_SUMS, LINK_COUNTERS, LINK_GAUGES, PEER_GAUGES,
    SHARD_COUNTERS, SHARD_GAUGES, SHARD_SIZES, SHARD_TIMES, TIME_BOUNDS,
};
use super::{Distribution, GroupReport, LinkReport, Report, ShardReport};
use crate::raft::PeerStatus;
use crate::shard::{Hook, MessageCounts};

type Labels = Vec<(&'static str, String)>;

/// What is encoded.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) report: Report,
    pub(super) group_limit: usize,
}

impl Collector for Page {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Writer(encoder);
        let Report { shards, groups, node, cluster, version, uptime } = &self.report;
        let info = [
            ("node", node.to_string()),
            ("cluster", cluster.to_string()),
            ("version", version.clone()),
        ];
        page.gauges("node_info", "The node", [(info.to_vec(), 1_u64)])?;
        page.gauges("uptime_seconds", "Since the start", [(Vec::new(), uptime.as_secs_f64())])?;
        page.shards(shards)?;
        page.links(shards)?;
        if groups.len() <= self.group_limit {
            page.groups(groups)
        } else {
            page.group_sums(shards, groups)
        }
    }
}

struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn shards(&mut self, shards: &[ShardReport]) -> fmt::Result {
        let labels = |shard: &ShardReport| vec![("shard", shard.shard.to_string())];
        for (name, help, value) in SHARD_COUNTERS {
            self.counters(name, help, shards.iter().map(|s| (labels(s), value(s))))?;
        }
        let refusals = shards.iter().flat_map(|shard| {
            let labels =
                |reason: &str| [labels(shard), vec![("reason", reason.to_owned())]].concat();
            shard.refusals.iter().map(move |refusal| (labels(&refusal.reason), refusal.count))
        });
        self.counters("connections_refused", "Connections refused, by the reason", refusals)?;
        for (name, help, value) in SHARD_GAUGES {
            self.gauges(name, help, shards.iter().map(|s| (labels(s), value(s))))?;
        }
        for (name, help, value) in SHARD_TIMES {
            let values = shards.iter().map(|s| (labels(s), value(s)));
            self.histograms(name, help, &TIME_BOUNDS, 1e9, values)?;
        }
        let hooks = shards.iter().flat_map(|shard| {
            let labels = move |hook: Hook| [labels(shard), vec![("hook", hook.name().to_owned())]];
            Hook::ALL.map(|hook| (labels(hook).concat(), shard.hooks.of(hook)))
        });
        let help = "A call of a state machine's hook";
        self.histograms("hook_seconds", help, &TIME_BOUNDS, 1e9, hooks)?;
        let sizes: Vec<u64> = (0..=24).step_by(2).map(|power| 1 << power).collect();
        for (name, help, value) in SHARD_SIZES {
            let values = shards.iter().map(|s| (labels(s), value(s)));
            self.histograms(name, help, &sizes, 1.0, values)?;
        }
        Ok(())
    }

    fn links(&mut self, shards: &[ShardReport]) -> fmt::Result {
        let links = || shards.iter().flat_map(|s| s.links.iter().map(move |link| (s.shard, link)));
        let labels = |shard: u32, link: &LinkReport| {
            vec![
                ("shard", shard.to_string()),
                ("peer", link.node.to_string()),
                ("peer_shard", link.shard.to_string()),
            ]
        };
        for (name, help, value) in LINK_COUNTERS {
            self.counters(name, help, links().map(|(s, link)| (labels(s, link), value(link))))?;
        }
        for (name, help, value) in LINK_GAUGES {
            self.gauges(name, help, links().map(|(s, link)| (labels(s, link), value(link))))?;
        }
        let times = links().map(|(s, link)| (labels(s, link), &link.acknowledged));
        let help = "From sending entries to their acknowledgement, sampled";
        self.histograms("link_acknowledged_seconds", help, &TIME_BOUNDS, 1e9, times)?;
        let by_kind = |counts: fn(&LinkReport) -> &MessageCounts| {
            links().flat_map(move |(s, link)| {
                let labels =
                    move |kind: &str| [labels(s, link), vec![("kind", kind.to_owned())]].concat();
                counts(link).iter().map(move |(kind, count)| (labels(kind.name()), count))
            })
        };
        let (sent, received) = ("Messages sent, by kind", "Messages received, by kind");
        self.counters("link_messages_sent", sent, by_kind(|link| &link.messages_sent))?;
        self.counters("link_messages_received", received, by_kind(|link| &link.messages_received))
    }

    fn groups(&mut self, groups: &[GroupReport]) -> fmt::Result {
        let labels = |group: &GroupReport| {
            vec![("shard", group.shard.to_string()), ("group", group.status.group.to_string())]
        };
        for (name, help, value) in GROUP_SUMS.iter().chain(GROUP_GAUGES) {
            self.gauges(name, help, groups.iter().map(|g| (labels(g), value(g))))?;
        }
        for (name, help, value) in GROUP_COUNTERS {
            self.counters(name, help, groups.iter().map(|g| (labels(g), value(g))))?;
        }
        for (name, help, value) in PEER_GAUGES {
            let peers = groups.iter().flat_map(|group| {
                let labels = move |peer: &PeerStatus| {
                    [labels(group), vec![("peer", peer.id.to_string())]].concat()
                };
                group.status.peers.iter().map(move |peer| (labels(peer), value(peer)))
            });
            self.gauges(name, help, peers)?;
        }
        Ok(())
    }

    fn group_sums(&mut self, shards: &[ShardReport], groups: &[GroupReport]) -> fmt::Result {
        for (name, help, value) in GROUP_SUMS {
            let sums = shards.iter().map(|shard| {
                let of_shard = groups.iter().filter(|group| group.shard == shard.shard);
                (vec![("shard", shard.shard.to_string())], of_shard.map(value).sum())
            });
            self.gauges::<u64>(name, help, sums)?;
        }
        Ok(())
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<N: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = (Labels, N)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    /// Values and `bounds` are divided by `unit`.
    fn histograms<'d>(
        &mut self,
        name: &str,
        help: &str,
        bounds: &[u64],
        unit: f64,
        values: impl IntoIterator<Item = (Labels, &'d Distribution)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, distribution) in values {
            let count = distribution.count();
            let mut before = 0;
            let mut buckets = Vec::with_capacity(bounds.len() + 1);
            for (bound, through) in bounds.iter().zip(distribution.at_most(bounds)) {
                buckets.push((*bound as f64 / unit, through - before));
                before = through;
            }
            buckets.push((f64::INFINITY, count - before));
            let sum = distribution.sum() as f64 / unit;
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        Ok(())
    }
}
