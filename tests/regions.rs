//! Regions on real members: where the leader is, how it gets there, and that nothing is lost on the
//! way. What an account may say and who leads by it is tested beside the code, in `src/region/`.

#[path = "cluster/members.rs"]
#[expect(dead_code, reason = "the fault tests use the rest")]
mod members;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use etcd_client::{Client, GetOptions};
use members::{Cluster, Setup};
use orrery::proto::{
    etcdserverpb::{
        AuthEnableRequest, AuthUserAddRequest, AuthUserGrantRoleRequest, AuthenticateRequest,
        auth_client::AuthClient,
    },
    region::{
        Account, Location, RegionsConfigureRequest, RegionsFailoverRequest, RegionsOfflineRequest,
        RegionsOnlineRequest, RegionsSetPrioritiesRequest, RegionsShowRequest, RegionsShowResponse,
        regions_client::RegionsClient,
    },
};
use tokio::{task::JoinHandle, time::sleep};
use tonic::{Code, Request, Status, transport::Channel};

const EAST: &str = "eastus";
const WEST: &str = "westeurope";
const JAPAN: &str = "japaneast";

/// Member `at` of a cluster stands in this region.
const REGIONS: [&str; 3] = [EAST, WEST, JAPAN];

/// Longer than a lost region is waited for, and than a busy machine takes on top of it.
const DEADLINE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(20);

const ELECTION: Duration = Duration::from_millis(500);

fn setup(regions: &[&str]) -> Setup {
    let mut setup = Setup::new(regions.len());
    setup.flags = vec!["--heartbeat-interval=50".to_owned(), "--election-timeout=500".to_owned()];
    let own = |region: &&str| vec![format!("--region={region}"), "--zone=1".to_owned()];
    setup.own_flags = regions.iter().map(own).collect();
    setup
}

type Regions = RegionsClient<Channel>;

async fn channel(cluster: &Cluster, at: usize) -> Channel {
    Channel::from_shared(cluster.endpoint(at)).unwrap().connect().await.unwrap()
}

async fn regions(cluster: &Cluster, at: usize) -> Regions {
    RegionsClient::new(channel(cluster, at).await)
}

fn locations(order: &[&str]) -> Vec<Location> {
    let location = |(priority, name): (u32, &&str)| Location {
        location_name: (*name).to_owned(),
        failover_priority: priority,
        offline: false,
    };
    (0..).zip(order).map(location).collect()
}

fn configure(order: &[&str], automatic: Option<bool>) -> RegionsConfigureRequest {
    let enable_automatic_failover = automatic;
    RegionsConfigureRequest {
        locations: locations(order),
        enable_automatic_failover,
        failback: None,
    }
}

fn failover(to: &str, force: bool) -> RegionsFailoverRequest {
    RegionsFailoverRequest { location_name: to.to_owned(), force }
}

/// Names by priority, with a `-` before those that are offline.
fn shown(account: Option<Account>) -> String {
    let show = |location: &Location| {
        format!("{}{}", if location.offline { "-" } else { "" }, location.location_name)
    };
    account.unwrap().locations.iter().map(show).collect::<Vec<_>>().join(" ")
}

/// What a member shows once this is so.
async fn until(
    regions: &mut Regions,
    what: &str,
    is_so: impl Fn(&RegionsShowResponse) -> bool,
) -> RegionsShowResponse {
    let begun = Instant::now();
    loop {
        let shown = regions.show(RegionsShowRequest {}).await.unwrap().into_inner();
        if is_so(&shown) {
            return shown;
        }
        assert!(begun.elapsed() < DEADLINE, "not {what}: {shown:?}");
        sleep(POLL).await;
    }
}

async fn until_led_from(regions: &mut Regions, region: &str) -> RegionsShowResponse {
    until(regions, &format!("led from {region}"), |shown| shown.leader_region == region).await
}

/// Members in three regions, led from the first one.
async fn three() -> Cluster {
    let cluster = setup(&REGIONS).start().await;
    let mut east = regions(&cluster, 0).await;
    let is_known = |shown: &RegionsShowResponse| {
        let mut regions: Vec<&str> =
            shown.members.iter().map(|member| member.region.as_str()).collect();
        regions.sort_unstable();
        regions == [EAST, JAPAN, WEST]
    };
    until(&mut east, "known to all", is_known).await;
    let configured = east.configure(configure(&REGIONS, None)).await.unwrap().into_inner();
    assert_eq!(shown(configured.account), "eastus westeurope japaneast");
    until_led_from(&mut east, EAST).await;
    cluster
}

/// Writes one key after the other, until told to stop.
struct Writer {
    stop: Arc<AtomicBool>,
    written: JoinHandle<Written>,
}

struct Written {
    acknowledged: Vec<u64>,
    longest_gap: Duration,
    failed: Vec<String>,
}

impl Writer {
    fn start(mut client: Client) -> Writer {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let written = tokio::spawn(async move {
            let mut written = Written {
                acknowledged: Vec::new(),
                longest_gap: Duration::ZERO,
                failed: Vec::new(),
            };
            let mut last = Instant::now();
            for number in 0.. {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                match client.put(format!("w{number:08}"), "", None).await {
                    Ok(_) => {
                        written.acknowledged.push(number);
                        written.longest_gap = written.longest_gap.max(last.elapsed());
                        last = Instant::now();
                    }
                    Err(error) => written.failed.push(error.to_string()),
                }
            }
            written
        });
        Writer { stop, written }
    }

    async fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        self.written.await.unwrap()
    }
}

async fn keys(cluster: &Cluster, at: usize) -> Vec<u64> {
    let all = GetOptions::new().with_prefix().with_keys_only();
    let found = cluster.client(at).await.get("w", Some(all)).await.unwrap();
    let number = |key: &str| key[1..].parse().unwrap();
    found.kvs().iter().map(|kv| number(kv.key_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_switch_loses_nothing() {
    let cluster = three().await;
    let mut japan = regions(&cluster, 2).await;
    for at in [1, 2] {
        let writer = Writer::start(cluster.client(at).await);
        for to in [WEST, JAPAN, EAST] {
            let account = japan.failover(failover(to, false)).await.unwrap().into_inner().account;
            assert_eq!(account.unwrap().locations[0].location_name, to);
            until_led_from(&mut japan, to).await;
        }
        let written = writer.stop().await;
        println!("longest gap {:?}, failed {:?}", written.longest_gap, written.failed);
        let kept = keys(&cluster, at).await;
        assert!(written.acknowledged.iter().all(|number| kept.contains(number)));
    }
    let order = locations(&[WEST, JAPAN, EAST]);
    let set = RegionsSetPrioritiesRequest { locations: order, force: false };
    let account = japan.set_priorities(set).await.unwrap().into_inner().account;
    assert_eq!(shown(account), "westeurope japaneast eastus");
    until_led_from(&mut japan, WEST).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_region_is_replaced_and_does_not_come_back_as_the_first() {
    let mut cluster = three().await;
    let writer = Writer::start(cluster.client(1).await);
    cluster.kill(&[0]);
    let mut west = regions(&cluster, 1).await;
    let is_replaced = |shown: &RegionsShowResponse| {
        shown.account.as_ref().is_some_and(|account| account.locations[0].location_name == WEST)
    };
    let after = until(&mut west, "replaced", is_replaced).await;
    assert_eq!(
        (shown(after.account), after.leader_region.as_str()),
        ("westeurope eastus japaneast".to_owned(), WEST,)
    );
    let written = writer.stop().await;
    println!("longest gap {:?}, failed {:?}", written.longest_gap, written.failed);
    cluster.restart(&[0]).await.unwrap();
    let is_back = |shown: &RegionsShowResponse| {
        shown.members.iter().any(|it| it.region == EAST && it.connected && it.lag == 0)
    };
    let back = until(&mut west, "back", is_back).await;
    assert_eq!(back.leader_region, WEST);
    let kept = keys(&cluster, 0).await;
    assert!(written.acknowledged.iter().all(|number| kept.contains(number)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_region_that_is_offline_does_not_lead() {
    let mut cluster = three().await;
    let mut japan = regions(&cluster, 2).await;
    let east = || EAST.to_owned();
    let offline = RegionsOfflineRequest { location_name: east(), force: false };
    let account = japan.offline(offline).await.unwrap().into_inner().account;
    assert_eq!(shown(account), "westeurope japaneast -eastus");
    until_led_from(&mut japan, WEST).await;
    // Of the two that are left only one may stand for election.
    cluster.kill(&[1]);
    until_led_from(&mut japan, JAPAN).await;
    cluster.restart(&[1]).await.unwrap();
    let refused = japan.failover(failover(EAST, false)).await.unwrap_err();
    assert_eq!(refused.message(), "region eastus is offline: bring it online first");
    let online = RegionsOnlineRequest { location_name: east() };
    let account = japan.online(online).await.unwrap().into_inner().account;
    assert!(shown(account).ends_with(" eastus"));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_automatic_failover_the_others_wait_until_somebody_decides() {
    let mut cluster = three().await;
    let mut west = regions(&cluster, 1).await;
    west.configure(configure(&[], Some(false))).await.unwrap();
    let switched = |cluster: &Cluster, at| {
        let words = "whether this member stands for election by itself has changed";
        cluster.log(at).contains(words)
    };
    let begun = Instant::now();
    while !(switched(&cluster, 1) && switched(&cluster, 2)) {
        assert!(begun.elapsed() < DEADLINE, "the others do not follow the account");
        sleep(POLL).await;
    }
    // A planned switch goes to a member that does not stand for election by itself.
    west.failover(failover(JAPAN, false)).await.unwrap();
    west.failover(failover(EAST, false)).await.unwrap();
    cluster.kill(&[0]);
    // An election would have been over by then, and nothing else tells that there is none.
    sleep(ELECTION * 6).await;
    let now = west.show(RegionsShowRequest {}).await.unwrap().into_inner();
    assert_eq!((now.leader, now.leader_answered), (0, false));
    let forced = west.failover(failover(JAPAN, true)).await.unwrap().into_inner();
    assert_eq!(shown(forced.account), "japaneast eastus westeurope");
    until_led_from(&mut west, JAPAN).await;
    cluster.client(1).await.put("k", "v", None).await.unwrap();
    // Its only member may stand for election when it comes back.
    cluster.kill(&[2]);
    cluster.restart(&[0]).await.unwrap();
    cluster.restart(&[2]).await.unwrap();
    until_led_from(&mut west, JAPAN).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_switch_to_a_member_that_hangs_is_refused_and_somebody_leads_on() {
    let cluster = three().await;
    let mut east = regions(&cluster, 0).await;
    // Nobody else stands for election, and whoever hands over can't.
    east.configure(configure(&[], Some(false))).await.unwrap();
    cluster.pause(&[1]);
    let refused = east.failover(failover(WEST, false)).await.unwrap_err();
    let words = "region westeurope did not take over in time, and nothing was changed";
    assert_eq!(refused.message(), words);
    cluster.client(2).await.put("k", "v", None).await.unwrap();
    cluster.resume(&[1]);
    let after = until_led_from(&mut east, EAST).await;
    assert_eq!(shown(after.account), "eastus westeurope japaneast");
}

/// The error, and the exit status.
fn refused(cluster: &Cluster, arguments: &[&str]) -> (String, Option<i32>) {
    let output = tool(cluster, arguments);
    let words = String::from_utf8(output.stderr).unwrap();
    assert_eq!(words.lines().count(), 1, "{words}");
    (words.trim().to_owned(), output.status.code())
}

fn tool(cluster: &Cluster, arguments: &[&str]) -> std::process::Output {
    let endpoints = cluster.endpoints().join(",");
    let mut command = Command::new(env!("CARGO_BIN_EXE_orrery"));
    command.arg("region").args(arguments).args(["--endpoints", &endpoints]);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tool_shows_regions_and_says_in_one_sentence_what_cannot_be() {
    let cluster = setup(&[EAST, WEST, WEST]).start().await;
    let mut client = regions(&cluster, 0).await;
    let all_known =
        |shown: &RegionsShowResponse| shown.members.iter().all(|it| !it.region.is_empty());
    until(&mut client, "known to all", all_known).await;
    #[track_caller]
    fn check(cluster: &Cluster, arguments: &[&str], words: &str) {
        let (said, status) = refused(cluster, arguments);
        assert!(said.starts_with(&format!("Error: {words}")), "{arguments:?}: {said}");
        assert_eq!(status, Some(5));
    }
    check(&cluster, &["failover", "--to", WEST], "there is no account of regions yet");
    let two = "voters stand in two regions only, eastus and westeurope: if the one with more of \
               them is lost, so is the majority, and the other can neither lead nor write; start \
               a voter, or a witness, in a third region";
    check(&cluster, &["configure", "--locations", "eastus=0,westeurope=1"], two);
    check(
        &cluster,
        &["configure", "--locations", "eastus=0,mars=1"],
        "no member stands in region mars; members stand in: eastus, westeurope",
    );
    check(
        &cluster,
        &["configure", "--locations", "eastus=1,westeurope=1"],
        "failover priority 1 is given to both eastus and westeurope",
    );
    check(
        &cluster,
        &["configure", "--locations", "eastus=0,westeurope=2"],
        "no region has failover priority 1",
    );
    let listed = tool(&cluster, &["list", "-w", "json"]);
    let listed: serde_json::Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["locations"][1]["locationName"], WEST);
    assert_eq!(listed["locations"][1]["members"].as_array().unwrap().len(), 2);
    assert_eq!(listed["locations"][1]["members"][0]["zone"], "1");
    let table = String::from_utf8(tool(&cluster, &["list"]).stdout).unwrap();
    assert!(table.contains("no account: `orrery region configure` makes one"), "{table}");
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().unwrap());
    request
}

async fn user(auth: &mut AuthClient<Channel>, name: &str) -> Result<(), Status> {
    let (name, password) = (name.to_owned(), "p".to_owned());
    auth.user_add(AuthUserAddRequest { name, password, ..Default::default() }).await.map(drop)
}

async fn token(auth: &mut AuthClient<Channel>, name: &str) -> String {
    let (name, password) = (name.to_owned(), "p".to_owned());
    let answer = auth.authenticate(AuthenticateRequest { name, password }).await;
    answer.unwrap().into_inner().token
}

#[tokio::test(flavor = "multi_thread")]
async fn with_authentication_users_look_and_root_changes() {
    let cluster = three().await;
    let mut auth = AuthClient::new(channel(&cluster, 1).await);
    user(&mut auth, "root").await.unwrap();
    user(&mut auth, "alice").await.unwrap();
    let (name, role) = ("root".to_owned(), "root".to_owned());
    auth.user_grant_role(AuthUserGrantRoleRequest { user: name, role }).await.unwrap();
    auth.auth_enable(AuthEnableRequest {}).await.unwrap();
    let (root, alice) = (token(&mut auth, "root").await, token(&mut auth, "alice").await);
    let mut west = regions(&cluster, 1).await;
    let nobody = west.show(RegionsShowRequest {}).await.unwrap_err();
    assert_eq!(nobody.message(), "etcdserver: user name is empty");
    assert!(west.show(with_token(RegionsShowRequest {}, &alice)).await.is_ok());
    let denied = west.failover(with_token(failover(WEST, false), &alice)).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let denied = west.configure(with_token(configure(&[], Some(false)), &alice)).await;
    assert_eq!(denied.unwrap_err().code(), Code::PermissionDenied);
    let done = west.failover(with_token(failover(WEST, false), &root)).await.unwrap();
    assert_eq!(shown(done.into_inner().account), "westeurope eastus japaneast");
    let output = tool(&cluster, &["failover", "--to", JAPAN, "--user", "root:p"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("write region japaneast; japaneast=0, westeurope=1"), "{said}");
}
