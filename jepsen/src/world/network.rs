//! The network: each member in a namespace of its own, the harness as the router between them, and
//! one set of rules for what is lost on the way.
//!
//! What members say to each other is forwarded, and what clients say to members comes from the
//! harness itself, so the two can be broken separately.

use std::{collections::BTreeSet, fmt::Write, net::Ipv4Addr};

use anyhow::{Context, Result};

use crate::{
    history::MemberIndex,
    tool::{fed, run},
};

/// Who sends or receives: a member, or all clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    Member(MemberIndex),
    Clients,
}

/// What the network does to packets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weather {
    /// Ordered pairs between which nothing passes.
    pub cut: BTreeSet<(Side, Side)>,
    /// Ordered pairs between which so many percent are lost.
    pub lossy: Vec<(Side, Side, u32)>,
    /// Ordered pairs whose connections are reset at the next packet.
    pub reset: BTreeSet<(Side, Side)>,
    /// Whether what members say to each other goes through the harness's queue.
    pub queued: bool,
}

/// Number of the queue in which the harness holds packets back.
pub const QUEUE: u16 = 0;

/// The namespaces and links that were made; they end with the harness.
#[derive(Debug)]
pub struct Network(());

impl Network {
    /// Namespaces and links for so many members, in the namespaces that the harness runs in.
    pub(super) fn make(members: usize) -> Result<Network> {
        run("ip", &["link", "set", "lo", "up"])?;
        std::fs::create_dir_all("/run/netns").context("/run/netns")?;
        run("mount", &["-t", "tmpfs", "none", "/run/netns"])?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("ip_forward")?;
        for member in 0..members {
            let (ns, link) = (namespace(member), link(member));
            run("ip", &["netns", "add", &ns])?;
            run(
                "ip",
                &["link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &ns],
            )?;
            run("ip", &["addr", "add", &format!("{}/30", gateway(member)), "dev", &link])?;
            run("ip", &["link", "set", &link, "up"])?;
            for arguments in [
                format!("addr add {}/30 dev eth0", address(member)),
                "link set eth0 up".to_owned(),
                "link set lo up".to_owned(),
                format!("route add default via {}", gateway(member)),
            ] {
                let arguments: Vec<&str> = arguments.split(' ').collect();
                run("ip", &[&["-n", &ns], &arguments[..]].concat())?;
            }
        }
        let network = Network(());
        network.set(&Weather::default())?;
        Ok(network)
    }

    /// From now on packets meet this weather; all of it changes at once.
    pub fn set(&self, weather: &Weather) -> Result<()> {
        fed("nft", &["-f", "-"], &rules(weather))?;
        run("iptables", &["-t", "mangle", "-F", "FORWARD"])?;
        if weather.queued {
            let queue = QUEUE.to_string();
            let rule = ["-A", "FORWARD", "-j", "NFQUEUE", "--queue-num", &queue, "--queue-bypass"];
            run("iptables", &[&["-t", "mangle"], &rule[..]].concat())?;
        }
        Ok(())
    }

    /// Packets that the rules of now have stopped.
    pub fn stopped(&self) -> Result<u64> {
        let listed = run("nft", &["list", "table", "ip", "jepsen"])?;
        let counters = listed.split("counter packets ").skip(1);
        Ok(counters.filter_map(|rest| rest.split(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Bounds what a member sends, in kilobits a second; `None` lifts the bound.
    pub fn limit(&self, member: MemberIndex, kilobits: Option<u32>) -> Result<()> {
        let ns = namespace(member);
        let Some(kilobits) = kilobits else {
            // There is none to delete when it never was limited.
            let _ = run("tc", &["-n", &ns, "qdisc", "del", "dev", "eth0", "root"]);
            return Ok(());
        };
        let rate = format!("{kilobits}kbit");
        let shape = ["tbf", "rate", &rate, "burst", "32kb", "latency", "400ms"];
        let device = ["-n", &ns, "qdisc", "replace", "dev", "eth0", "root"];
        run("tc", &[&device[..], &shape[..]].concat()).map(drop)
    }

    /// All ordered pairs between two groups of members, both ways.
    pub fn between(left: &[MemberIndex], right: &[MemberIndex]) -> BTreeSet<(Side, Side)> {
        let mut pairs = BTreeSet::new();
        for (one, other) in
            left.iter().flat_map(|one| right.iter().map(move |other| (*one, *other)))
        {
            pairs.insert((Side::Member(one), Side::Member(other)));
            pairs.insert((Side::Member(other), Side::Member(one)));
        }
        pairs
    }
}

/// The namespace of a member, as `nsenter` finds it.
pub fn namespace(member: MemberIndex) -> String {
    format!("m{member}")
}

fn link(member: MemberIndex) -> String {
    format!("to-m{member}")
}

pub fn address(member: MemberIndex) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, octet(member), 2)
}

fn gateway(member: MemberIndex) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, octet(member), 1)
}

fn octet(member: MemberIndex) -> u8 {
    u8::try_from(member).expect("a run has few members")
}

/// Rules for nft: the whole table is replaced in one transaction.
fn rules(weather: &Weather) -> String {
    let mut chains = [String::new(), String::new(), String::new()];
    let mut add = |from: Side, to: Side, verdict: &str| {
        let (chain, ends) = match (from, to) {
            (Side::Member(from), Side::Member(to)) => {
                (0, format!("ip saddr {} ip daddr {}", address(from), address(to)))
            }
            (Side::Clients, Side::Member(to)) => (1, format!("ip daddr {}", address(to))),
            (Side::Member(from), Side::Clients) => (2, format!("ip saddr {}", address(from))),
            // Clients do not talk to each other.
            (Side::Clients, Side::Clients) => return,
        };
        let _ = writeln!(chains[chain], "    {ends} {verdict}");
    };
    for (from, to) in &weather.cut {
        add(*from, *to, "counter drop");
    }
    for (from, to) in &weather.reset {
        add(*from, *to, "meta l4proto tcp counter reject with tcp reset");
    }
    for (from, to, percent) in &weather.lossy {
        add(*from, *to, &format!("numgen random mod 100 < {percent} counter drop"));
    }
    let mut text = "table ip jepsen\ndelete table ip jepsen\ntable ip jepsen {\n".to_owned();
    for (hook, chain) in ["forward", "output", "input"].iter().zip(&chains) {
        let _ = writeln!(text, "  chain {hook} {{ type filter hook {hook} priority 0;");
        text.push_str(chain);
        text.push_str("  }\n");
    }
    text.push_str("}\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_stand_in_the_chain_that_their_packets_pass() {
        let mut weather = Weather { cut: Network::between(&[0], &[1]), ..Default::default() };
        weather.cut.insert((Side::Clients, Side::Member(2)));
        weather.lossy.push((Side::Member(2), Side::Clients, 30));
        let text = rules(&weather);
        let chain = |name: &str| {
            let rest = text.split(&format!("chain {name}")).nth(1).unwrap();
            rest.split("  }").next().unwrap().to_owned()
        };
        assert!(chain("forward").contains("ip saddr 10.77.0.2 ip daddr 10.77.1.2 counter drop"));
        assert!(chain("forward").contains("ip saddr 10.77.1.2 ip daddr 10.77.0.2 counter drop"));
        assert!(chain("output").contains("ip daddr 10.77.2.2 counter drop"));
        assert!(chain("input").contains("ip saddr 10.77.2.2 numgen random mod 100 < 30"));
    }
}
