//! Generates the message and service types from `proto/`, without needing protoc.

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
    Ok(())
}
