//! systemd's journal, by its own protocol: one datagram a line.

use std::{io, os::unix::net::UnixDatagram, path::Path};

use serde_json::Value;

pub(crate) struct Journal {
    socket: UnixDatagram,
    /// This program's name.
    identifier: String,
}

impl Journal {
    pub(crate) const SOCKET: &str = "/run/systemd/journal/socket";

    pub(crate) fn open() -> io::Result<Journal> {
        Journal::connect(Path::new(Journal::SOCKET))
    }

    fn connect(path: &Path) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        // A journal that is stuck must not stop a member.
        socket.set_nonblocking(true)?;
        Ok(Journal { socket, identifier: env!("CARGO_PKG_NAME").to_owned() })
    }

    /// A line that is too long for a datagram, or that the journal has no room for, is an error.
    pub(crate) fn send(&self, level: &str, line: &[u8]) -> io::Result<()> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut message = Vec::with_capacity(line.len() + 128);
        field(&mut message, "PRIORITY", priority(level).as_bytes());
        field(&mut message, "SYSLOG_IDENTIFIER", self.identifier.as_bytes());
        field(&mut message, "PACKAGE", package(line).as_bytes());
        field(&mut message, "MESSAGE", line);
        self.socket.send(&message).map(drop)
    }
}

/// The folder of the line's caller; lines in another format than JSON have none that is found.
fn package(line: &[u8]) -> String {
    let parsed = serde_json::from_slice::<Value>(line).unwrap_or_default();
    let caller = parsed["caller"].as_str().unwrap_or_default();
    caller.split('/').next().unwrap_or_default().to_owned()
}

/// Values with line feeds are told by their length.
fn field(message: &mut Vec<u8>, name: &str, value: &[u8]) {
    message.extend(name.as_bytes());
    if value.contains(&b'\n') {
        message.push(b'\n');
        message.extend((value.len() as u64).to_le_bytes());
    } else {
        message.push(b'=');
    }
    message.extend(value);
    message.push(b'\n');
}

/// syslog's number for a level.
fn priority(level: &str) -> &'static str {
    match level {
        "debug" => "7",
        "info" => "6",
        "warn" => "4",
        "error" => "3",
        _ => "2",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message_with_its_priority() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("socket");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let journal = Journal::connect(&path).unwrap();
        let line = br#"{"level":"warn","caller":"node/start.rs:7","msg":"m"}"#;
        journal.send("warn", &[line.as_slice(), b"\n"].concat()).unwrap();
        let mut buffer = [0; 512];
        let length = receiver.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]);
        let line = String::from_utf8_lossy(line);
        let wanted =
            format!("PRIORITY=4\nSYSLOG_IDENTIFIER=orrery\nPACKAGE=node\nMESSAGE={line}\n");
        assert_eq!(text, wanted);
    }
}
