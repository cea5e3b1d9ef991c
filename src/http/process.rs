//! What the kernel knows of this process, under the names that every Prometheus exporter uses.

use std::{collections::HashMap, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Ticks in a second in what `/proc` shows; part of the kernel's interface on all that we run on.
const TICKS_PER_SEC: f64 = 100.0;

/// Reads `/proc/self` at each scrape; what cannot be read is left out.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        if let Some(cpu_secs) = cpu_secs() {
            let help = "User and system CPU time spent, in seconds";
            encode(&mut encoder, "process_cpu_seconds", help, &ConstCounter::new(cpu_secs))?;
        }
        let gauges = [
            ("process_resident_memory_bytes", "Resident memory size", status_bytes("VmRSS")),
            ("process_virtual_memory_bytes", "Virtual memory size", status_bytes("VmSize")),
            ("process_open_fds", "Open file descriptors", open_files()),
            ("process_max_fds", "File descriptors that may be open", open_files_max()),
            ("os_fd_used", "Open file descriptors", open_files()),
            ("os_fd_limit", "File descriptors that may be open", open_files_max()),
            ("process_virtual_memory_max_bytes", "Virtual memory that may be used", memory_max()),
            ("process_start_time_seconds", "Start of the process since the epoch", start_secs()),
        ];
        for (name, help, field) in [
            ("process_network_receive_bytes", "Bytes received by the network", "InOctets"),
            ("process_network_transmit_bytes", "Bytes sent by the network", "OutOctets"),
        ] {
            if let Some(bytes) = network_bytes(field) {
                encode(&mut encoder, name, help, &ConstCounter::new(bytes))?;
            }
        }
        for (name, help, value) in gauges {
            if let Some(value) = value {
                encode(&mut encoder, name, help, &ConstGauge::new(value))?;
            }
        }
        Ok(())
    }
}

fn encode(
    encoder: &mut DescriptorEncoder,
    name: &str,
    help: &str,
    metric: &impl EncodeMetric,
) -> Result<(), std::fmt::Error> {
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

/// A field of `/proc/self/stat` by its number in proc(5).
fn stat(number: usize) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses, and may hold anything.
    let (_, after_name) = text.rsplit_once(')')?;
    after_name.split_whitespace().nth(number - 3)?.parse().ok()
}

fn cpu_secs() -> Option<f64> {
    Some((stat(14)? + stat(15)?) / TICKS_PER_SEC)
}

fn start_secs() -> Option<f64> {
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot = system.lines().find_map(|line| line.strip_prefix("btime "))?;
    Some(boot.trim().parse::<f64>().ok()? + stat(22)? / TICKS_PER_SEC)
}

fn status_bytes(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let lines: HashMap<&str, &str> = text.lines().filter_map(|it| it.split_once(':')).collect();
    let kibibytes: f64 = lines.get(name)?.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024.0)
}

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^52 open files")]
fn open_files() -> Option<f64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as f64)
}

pub(super) fn open_files_max() -> Option<f64> {
    limit("Max open files")
}

fn memory_max() -> Option<f64> {
    limit("Max address space")
}

fn limit(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(2f64.powi(64)),
        number => number.parse().ok(),
    }
}

/// Of everything in this process's network namespace, as every exporter counts it.
fn network_bytes(field: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("IpExt: "));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names.split(' ').position(|name| name == field)?;
    values.split(' ').nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_this_process() {
        assert!(cpu_secs().unwrap() < 1e6);
        assert!(status_bytes("VmRSS").unwrap() > 1e5);
        assert!(status_bytes("VmSize").unwrap() >= status_bytes("VmRSS").unwrap());
        assert!(open_files().unwrap() >= 3.0);
        assert!(open_files_max().unwrap() >= open_files().unwrap());
        assert!(memory_max().unwrap() >= status_bytes("VmSize").unwrap());
        assert!(network_bytes("InOctets").is_some_and(|bytes| bytes >= 0.0));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        assert!((0.0..86_400.0).contains(&(now.as_secs_f64() - start_secs().unwrap())));
    }
}
