import io.etcd.jetcd.*;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.lease.LeaseKeepAliveResponse;
import io.etcd.jetcd.op.*;
import io.etcd.jetcd.options.*;
import io.etcd.jetcd.watch.WatchResponse;
import io.grpc.netty.GrpcSslContexts;
import io.grpc.stub.StreamObserver;
import java.io.File;
import java.nio.charset.StandardCharsets;
import java.util.*;
import java.util.concurrent.*;

/** What jetcd offers, once each, on members that want certificates, without and with users. */
public final class Tried {
    private static final long SECONDS = 30;
    private static int failures = 0;

    interface Part {
        void run() throws Exception;
    }

    public static void main(String[] arguments) throws Exception {
        String[] endpoints = arguments[0].split(",");
        File certificates = new File(arguments[1]);
        try (Client client = builder(endpoints, certificates).build()) {
            part("put, get, delete", () -> keys(client, "plain/"));
            part("transactions", () -> transactions(client, "plain/"));
            part("watch", () -> watch(client, "plain/"));
            part("leases", () -> leases(client, "plain/"));
            part("locks", () -> locks(client, "plain/"));
            part("elections", () -> elections(client, "plain/"));
            part("members and status", () -> operations(client, endpoints));
            part("users", () -> users(client));
        }
        try (Client app = builder(endpoints, certificates).user(bytes("app")).password(bytes("app")).build()) {
            part("as a user: put, get, delete", () -> keys(app, "app/"));
            part("as a user: transactions", () -> transactions(app, "app/"));
            part("as a user: watch", () -> watch(app, "app/"));
            part("as a user: leases", () -> leases(app, "app/"));
            part("as a user: locks", () -> locks(app, "app/"));
            part("as a user: elections", () -> elections(app, "app/"));
            part("as a user: what is denied", () -> denied(app));
        }
        try (Client root = builder(endpoints, certificates).user(bytes("root")).password(bytes("root")).build()) {
            part("authentication off", () -> get(root.getAuthClient().authDisable()));
        }
        System.exit(failures == 0 ? 0 : 1);
    }

    static void part(String name, Part part) {
        try {
            part.run();
            System.out.println("ok   " + name);
        } catch (Throwable error) {
            failures++;
            System.out.println("FAIL " + name + ": " + error);
        }
    }

    static ClientBuilder builder(String[] endpoints, File dir) throws Exception {
        return Client.builder().endpoints(endpoints).sslContext(GrpcSslContexts.forClient()
            .trustManager(new File(dir, "ca.crt"))
            .keyManager(new File(dir, "etcdclient.crt"), new File(dir, "etcdclient.key")).build());
    }

    static ByteSequence bytes(String text) {
        return ByteSequence.from(text, StandardCharsets.UTF_8);
    }

    static <T> T get(CompletableFuture<T> future) throws Exception {
        return future.get(SECONDS, TimeUnit.SECONDS);
    }

    static void same(Object got, Object wanted) {
        if (!Objects.equals(got, wanted)) {
            throw new AssertionError("got " + got + ", want " + wanted);
        }
    }

    static void keys(Client client, String prefix) throws Exception {
        KV kv = client.getKVClient();
        for (String name : List.of("a", "b", "c")) {
            get(kv.put(bytes(prefix + name), bytes(name)));
        }
        var prior = get(kv.put(bytes(prefix + "a"), bytes("2"), PutOption.builder().withPrevKV().build()));
        same(prior.getPrevKv().getValue(), bytes("a"));
        var below = GetOption.builder().isPrefix(true).withSortField(GetOption.SortTarget.KEY)
            .withSortOrder(GetOption.SortOrder.DESCEND).withLimit(2).build();
        var found = get(kv.get(bytes(prefix), below));
        same(found.getCount(), 3L);
        same(found.getKvs().get(0).getKey(), bytes(prefix + "c"));
        same(found.isMore(), true);
        var deleted = get(kv.delete(bytes(prefix), DeleteOption.builder().isPrefix(true).build()));
        same(deleted.getDeleted(), 3L);
    }

    static void transactions(Client client, String prefix) throws Exception {
        KV kv = client.getKVClient();
        ByteSequence key = bytes(prefix + "t");
        for (boolean first : new boolean[] {true, false}) {
            var answer = get(kv.txn().If(new Cmp(key, Cmp.Op.EQUAL, CmpTarget.createRevision(0)))
                .Then(Op.put(key, bytes("1"), PutOption.DEFAULT)).Else(Op.get(key, GetOption.DEFAULT)).commit());
            same(answer.isSucceeded(), first);
        }
        get(kv.delete(key));
    }

    static void watch(Client client, String prefix) throws Exception {
        BlockingQueue<WatchResponse> heard = new LinkedBlockingQueue<>();
        ByteSequence key = bytes(prefix + "w");
        var watcher = client.getWatchClient().watch(key, heard::add);
        Thread.sleep(300);
        get(client.getKVClient().put(key, bytes("1")));
        get(client.getKVClient().delete(key));
        List<String> kinds = new ArrayList<>();
        while (kinds.size() < 2) {
            var response = heard.poll(SECONDS, TimeUnit.SECONDS);
            response.getEvents().forEach(event -> kinds.add(event.getEventType().toString()));
        }
        same(kinds, List.of("PUT", "DELETE"));
        watcher.close();
    }

    static void leases(Client client, String prefix) throws Exception {
        long lease = get(client.getLeaseClient().grant(3)).getID();
        ByteSequence key = bytes(prefix + "l");
        get(client.getKVClient().put(key, bytes(""), PutOption.builder().withLeaseId(lease).build()));
        BlockingQueue<Long> renewed = new LinkedBlockingQueue<>();
        var keeping = client.getLeaseClient().keepAlive(lease, new StreamObserver<LeaseKeepAliveResponse>() {
            @Override public void onNext(LeaseKeepAliveResponse value) { renewed.add(value.getTTL()); }
            @Override public void onError(Throwable error) { renewed.add(-1L); }
            @Override public void onCompleted() { }
        });
        for (int times = 0; times < 5; times++) {
            same(renewed.poll(SECONDS, TimeUnit.SECONDS), 3L);
        }
        var left = get(client.getLeaseClient().timeToLive(lease, LeaseOption.builder().withAttachedKeys().build()));
        same(left.getKeys(), List.of(key));
        keeping.close();
        get(client.getLeaseClient().revoke(lease));
        same(get(client.getKVClient().get(key)).getCount(), 0L);
    }

    static void locks(Client client, String prefix) throws Exception {
        long one = get(client.getLeaseClient().grant(60)).getID();
        long other = get(client.getLeaseClient().grant(60)).getID();
        var held = get(client.getLockClient().lock(bytes(prefix + "lock"), one));
        var waits = client.getLockClient().lock(bytes(prefix + "lock"), other);
        Thread.sleep(300);
        same(waits.isDone(), false);
        get(client.getLockClient().unlock(held.getKey()));
        get(client.getLockClient().unlock(get(waits).getKey()));
    }

    static void elections(Client client, String prefix) throws Exception {
        long lease = get(client.getLeaseClient().grant(60)).getID();
        ByteSequence name = bytes(prefix + "election");
        var won = get(client.getElectionClient().campaign(name, lease, bytes("one")));
        same(get(client.getElectionClient().leader(name)).getKv().getValue(), bytes("one"));
        get(client.getElectionClient().proclaim(won.getLeader(), bytes("two")));
        same(get(client.getElectionClient().leader(name)).getKv().getValue(), bytes("two"));
        get(client.getElectionClient().resign(won.getLeader()));
    }

    static void operations(Client client, String[] endpoints) throws Exception {
        same(get(client.getClusterClient().listMember()).getMembers().size(), endpoints.length);
        for (String endpoint : endpoints) {
            System.out.println("     " + get(client.getMaintenanceClient().statusMember(endpoint)).getVersion());
        }
        same(get(client.getMaintenanceClient().listAlarms()).getAlarms().size(), 0);
        var file = File.createTempFile("jetcd", ".db");
        try (var out = new java.io.FileOutputStream(file)) {
            long size = get(client.getMaintenanceClient().snapshot(out));
            same(size > 0 && size == file.length(), true);
        }
        same(file.delete(), true);
    }

    static void users(Client client) throws Exception {
        Auth auth = client.getAuthClient();
        for (String name : List.of("root", "app")) {
            get(auth.userAdd(bytes(name), bytes(name)));
            get(auth.roleAdd(bytes(name)));
            get(auth.userGrantRole(bytes(name), bytes(name)));
        }
        get(auth.roleGrantPermission(bytes("app"), bytes("app/"), bytes("app0"), Permission.Type.READWRITE));
        same(get(auth.userGet(bytes("app"))).getRoles(), List.of("app"));
        get(auth.authEnable());
    }

    static void denied(Client app) {
        try {
            get(app.getKVClient().put(bytes("other"), bytes("")));
        } catch (Exception error) {
            if (error.toString().contains("PERMISSION_DENIED: etcdserver: permission denied")) {
                return;
            }
            throw new AssertionError(error.toString(), error);
        }
        throw new AssertionError("it was not denied");
    }
}
