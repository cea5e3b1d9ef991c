//! The socket that takes faults: one JSON object to a line, answered by one.
//!
//! ```text
//! {"do": "set", "fault": {"from": {"region": "eastus"}, "to": "elsewhere", "ways": "both",
//!  "effect": "cut"}, "leaseMs": 60000}
//! {"do": "clear", "id": 1}      all of them without an id
//! {"do": "show"}
//! ```

use std::{io, path::Path, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::Semaphore,
    time::sleep,
};

use super::{
    World,
    fault::{Fault, Part, Standing},
    topology::Topology,
};

/// A request has a few hundred bytes.
const LINE_BYTES_MAX: u64 = 64 << 10;

/// Those who give orders at a time.
const CALLERS_MAX: usize = 32;

/// Between two attempts to accept where the process may open no more files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", rename_all_fields = "camelCase", deny_unknown_fields)]
pub(crate) enum Request {
    Set {
        fault: Fault,
        /// How long the fault holds unless it is cleared before.
        #[serde(default)]
        lease_ms: Option<u64>,
    },
    Clear {
        /// All for none.
        #[serde(default)]
        id: Option<u64>,
    },
    Show {},
}

/// The faults that were set, cleared, or are in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Answer {
    Done { faults: Vec<Standing> },
    Refused { error: String },
}

/// Returns when nobody can connect any more, which is never.
pub(super) async fn serve(listener: UnixListener, world: Arc<World>) {
    let callers = Arc::new(Semaphore::new(CALLERS_MAX));
    while let Ok(permit) = callers.clone().acquire_owned().await {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let world = world.clone();
        tokio::spawn(async move {
            let _ = converse(stream, &world).await; // the caller has left
            drop(permit);
        });
    }
}

async fn converse(stream: UnixStream, world: &World) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::new(read);
    loop {
        let mut line = String::new();
        let length = (&mut read).take(LINE_BYTES_MAX).read_line(&mut line).await?;
        if length == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_str(&line) {
            Ok(request) => world.obey(request),
            Err(error) => Answer::Refused { error: format!("not a request: {error}") },
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        write.write_all(text.as_bytes()).await?;
    }
}

impl World {
    pub(crate) fn obey(&self, request: Request) -> Answer {
        match request {
            Request::Show {} => Answer::Done { faults: self.faults.show() },
            Request::Clear { id } => Answer::Done { faults: self.faults.clear(id) },
            Request::Set { fault, lease_ms } => {
                for part in [&fault.from, &fault.to] {
                    if let Err(error) = self.topology.has(part) {
                        return Answer::Refused { error };
                    }
                }
                match self.faults.set(fault, lease_ms.map(Duration::from_millis)) {
                    Ok(standing) => Answer::Done { faults: vec![standing] },
                    Err(error) => Answer::Refused { error: error.to_string() },
                }
            }
        }
    }
}

impl Topology {
    fn has(&self, part: &Part) -> Result<(), String> {
        let mut members = self.members.iter();
        match part {
            Part::Elsewhere => Ok(()),
            Part::Region(name) if self.regions.iter().any(|it| it.name == *name) => Ok(()),
            Part::Region(name) => Err(format!("no region {name:?}")),
            Part::Member(name) if members.any(|seat| seat.name == *name) => Ok(()),
            Part::Member(name) => Err(format!("no member {name:?}")),
            Part::Zone(name)
                if members.any(|seat| format!("{}/{}", seat.region, seat.zone) == *name) =>
            {
                Ok(())
            }
            Part::Zone(name) => Err(format!("no zone {name:?}: expected REGION/ZONE")),
        }
    }
}

/// Asks the process behind that socket.
pub(crate) async fn ask(socket: &Path, request: &Request) -> anyhow::Result<Answer> {
    let mut text = serde_json::to_string(request)?;
    text.push('\n');
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(text.as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await?;
    Ok(serde_json::from_str(&line)?)
}
