//! Generates the message and service types from `proto/`, without needing protoc, and the
//! descriptors of the client API, by which the JSON gateway reads and writes messages.

use std::{env, fs, path::Path};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=proto");
    let records = protox::compile(["etcd/kv.proto", "etcd/auth.proto"], ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(records)?;

    let services = protox::compile(
        [
            "etcd/rpc.proto",
            "etcd/lock.proto",
            "etcd/election.proto",
            "etcd/disk.proto",
            "orrery/command.proto",
            "orrery/peer.proto",
            "orrery/region.proto",
        ],
        ["proto"],
    )?;
    tonic_prost_build::configure()
        .bytes(".")
        // An event goes to many watchers, so it is shared and encoded once.
        .extern_path(".mvccpb.Event", "crate::proto::SharedEvent")
        .extern_path(".mvccpb", "crate::proto::mvccpb")
        .extern_path(".authpb", "crate::proto::authpb")
        .compile_fds(services)?;

    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true);
    compiler.open_files(["etcd/rpc.proto", "etcd/lock.proto", "etcd/election.proto"])?;
    let descriptors = Path::new(&env::var("OUT_DIR")?).join("client_api.bin");
    fs::write(descriptors, compiler.encode_file_descriptor_set())?;
    Ok(())
}
