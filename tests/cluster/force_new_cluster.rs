//! The data of one member of three, made a cluster of its own.

use std::{fs, path::Path};

use crate::{
    machine,
    members::{Cluster, client},
};

const FORCE: &str = "--force-new-cluster";

/// Cluster id, own id, ids of all members, and how many keys there are.
async fn seen(endpoint: &str) -> (u64, u64, Vec<u64>, i64) {
    let mut client = client(endpoint).await;
    let list = client.member_list().await.unwrap();
    let header = list.header().unwrap();
    let ids = list.members().iter().map(etcd_client::Member::id).collect();
    let options = etcd_client::GetOptions::new().with_prefix().with_count_only();
    let count = client.get("key", Some(options)).await.unwrap().count();
    (header.cluster_id(), header.member_id(), ids, count)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[tokio::test]
async fn a_member_goes_on_alone_with_its_data_and_its_id_as_often_as_it_is_told_to() {
    let _turn = machine::exclusive();
    let mut cluster = Cluster::start(3).await;
    let at = (cluster.leader().await + 1) % 3;
    let mut follower = cluster.client(at).await;
    for number in 0..100 {
        follower.put(format!("key{number}"), "value", None).await.unwrap();
    }
    let (cluster_id, member_id, ids, count) = seen(&cluster.endpoint(at)).await;
    assert_eq!((ids.len(), count), (3, 100));
    cluster.kill(&[0, 1, 2]);
    let original = cluster.data_dir(at).to_owned();
    let aside = original.with_extension("aside");
    copy(&original, &aside);

    let alone = |count| (cluster_id, member_id, vec![member_id], count);
    // Started from a copy, started with the flag again, and without it: always the same cluster.
    fs::remove_dir_all(&original).unwrap();
    copy(&aside, &original);
    for (flags, before) in [(vec![FORCE], 100), (vec![FORCE], 101), (vec![], 102)] {
        cluster.set_flags(&flags);
        cluster.restart(&[at]).await.unwrap();
        assert_eq!(seen(&cluster.endpoint(at)).await, alone(before));
        let mut client = cluster.client(at).await;
        client.put(format!("key{before}"), "value", None).await.unwrap();
        // Neither how it ends is to matter.
        match before % 2 {
            0 => cluster.kill(&[at]),
            _ => cluster.stop(at).await,
        }
    }
    assert!(cluster.log(at).contains("forcing restart member"));

    // The others were removed, and end when they are told.
    cluster.restart(&[at]).await.unwrap();
    let other = (at + 1) % 3;
    cluster.spawn(other);
    assert!(cluster.ended(other).await.success());
    let text = "the member has been permanently removed from the cluster";
    assert!(cluster.log(other).contains(text));
    // And it grows again.
    cluster.forget(other);
    cluster.forget((at + 2) % 3);
    let new = cluster.prepare_member();
    let mut client = cluster.client(at).await;
    client.member_add([cluster.peer_url(new)], None).await.unwrap();
    cluster.restart(&[new]).await.unwrap();
    assert_eq!(seen(&cluster.endpoint(new)).await.3, 103);
}
