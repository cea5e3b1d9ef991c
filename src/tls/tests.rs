//! Handshakes in memory, with certificates made for the test.

use std::io::{Read, Write};

use rustls::{ClientConnection, ServerConnection, pki_types::ServerName};
use tempfile::TempDir;

use super::*;

const HOST: &str = "127.0.0.1";

/// A folder with an authority and what it signed.
struct Folder {
    dir: TempDir,
    authority: Authority,
}

impl Folder {
    fn new() -> Folder {
        let dir = TempDir::new().unwrap();
        let authority = Authority::open_or_make(dir.path(), 1).unwrap();
        Folder { dir, authority }
    }

    fn issue(&self, name: &str, usage: Usage) -> Pair {
        self.authority.issue(self.dir.path(), name, &[HOST.to_owned()], usage).unwrap()
    }

    fn files(&self, shown: Pair) -> Files {
        Files {
            shown,
            dialling: None,
            trust: Trust::File(self.dir.path().join("ca.crt")),
            client_cert_auth: true,
            revoked: None,
            allowed: Allowed::All,
            check_address: false,
            protocol: Protocol::default(),
            flags: FlagNames::PEERS,
        }
    }
}

impl Folder {
    /// A list, signed by the authority, that revokes this certificate.
    fn revocation_list(&self, pair: &Pair) -> String {
        let key = std::fs::read_to_string(self.dir.path().join("ca.key")).unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "orrery authority");
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        let issuer = rcgen::Issuer::new(params, rcgen::KeyPair::from_pem(&key).unwrap());
        let revoked = rcgen::RevokedCertParams {
            serial_number: serial(&pair.cert),
            revocation_time: rcgen::date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2026, 1, 1),
            next_update: rcgen::date_time_ymd(3026, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&issuer).unwrap().pem().unwrap()
    }
}

/// The certificate's number, which stands behind its version: `[0] { INTEGER 2 } INTEGER number`.
fn serial(cert: &Path) -> rcgen::SerialNumber {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let der = CertificateDer::from_pem_file(cert).unwrap();
    let version = [0xa0, 3, 2, 1, 2, 2];
    let at = der.windows(6).position(|bytes| bytes == version).unwrap() + version.len();
    rcgen::SerialNumber::from_slice(&der[at + 1..at + 1 + der[at] as usize])
}

/// Shakes hands; the protocol agreed on and the server's certificate, or who refused why.
fn handshake(server: &ServerTls, client: &ClientTls) -> Result<(Option<Vec<u8>>, Vec<u8>), String> {
    let mut server = ServerConnection::new(server.current()).unwrap();
    let name = ServerName::try_from(HOST).unwrap();
    let mut client = ClientConnection::new(client.current(), name).unwrap();
    let mut wire = Vec::new();
    for _ in 0..10 {
        wire.clear();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut wire.as_slice()).unwrap();
        server.process_new_packets().map_err(|error| format!("server: {error}"))?;
        wire.clear();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut wire.as_slice()).unwrap();
        client.process_new_packets().map_err(|error| format!("client: {error}"))?;
    }
    client.writer().write_all(b"x").unwrap();
    wire.clear();
    client.write_tls(&mut wire).unwrap();
    server.read_tls(&mut wire.as_slice()).unwrap();
    server.process_new_packets().map_err(|error| format!("server: {error}"))?;
    let mut byte = [0];
    server.reader().read_exact(&mut byte).map_err(|error| error.to_string())?;
    let shown = client.peer_certificates().unwrap()[0].to_vec();
    Ok((server.alpn_protocol().map(<[u8]>::to_vec), shown))
}

#[track_caller]
fn refused(server: &Files, client: &Files, by: &str) {
    let server = ServerTls::load(server, &[]).unwrap();
    let client = ClientTls::load(client, &[]).unwrap();
    let error = handshake(&server, &client).unwrap_err();
    assert!(error.starts_with(by), "{error}");
}

#[test]
fn members_of_one_authority_talk_and_agree_on_a_protocol() {
    let folder = Folder::new();
    let files = folder.files(folder.issue("peer", Usage::Both));
    for (versions, offered, agreed) in [
        (Versions::Both, [b"http/1.1".as_slice()].as_slice(), b"http/1.1".as_slice()),
        (Versions::Only12, &[b"http/1.1", b"h2"], b"h2"),
        (Versions::Only13, &[b"h2"], b"h2"),
    ] {
        let protocol = Protocol { versions, ..Protocol::default() };
        let server = ServerTls::load(&Files { protocol, ..files.clone() }, CLIENT_PROTOCOLS);
        let client = ClientTls::load(&files, offered).unwrap();
        let (protocol, _) = handshake(&server.unwrap(), &client).unwrap();
        assert_eq!(protocol.as_deref(), Some(agreed), "{versions:?}");
    }
}

#[test]
fn a_stranger_is_refused_on_either_side() {
    let (ours, theirs) = (Folder::new(), Folder::new());
    let own = ours.files(ours.issue("peer", Usage::Both));
    let stranger = theirs.files(theirs.issue("peer", Usage::Both));
    refused(&stranger, &own, "client: invalid peer certificate");
    // The stranger takes our server for what it is, and is refused for what it shows itself.
    let trusting = Files { trust: own.trust.clone(), ..stranger };
    refused(&own, &trusting, "server: invalid peer certificate");
}

#[test]
fn a_certificate_for_servers_does_not_make_a_client() {
    let folder = Folder::new();
    let server = folder.files(folder.issue("peer", Usage::Both));
    let client = folder.files(folder.issue("server", Usage::Server));
    refused(&server, &client, "server: invalid peer certificate");
}

#[test]
fn another_certificate_can_be_shown_when_dialling() {
    let folder = Folder::new();
    let dialling = Some(folder.issue("client", Usage::Client));
    let files = Files { dialling, ..folder.files(folder.issue("server", Usage::Server)) };
    let server = ServerTls::load(&files, &[]).unwrap();
    handshake(&server, &ClientTls::load(&files, &[]).unwrap()).unwrap();
}

#[test]
fn automatic_certificates_are_made_once_and_peers_accept_them() {
    let (one, other) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let make = |dir: &TempDir| {
        let dir = dir.path().join("fixtures/peer");
        let hosts = [HOST.to_owned()];
        Files::automatic(&dir, &hosts, 1, Protocol::default(), FlagNames::PEERS).unwrap()
    };
    let server = ServerTls::load(&make(&one), &[]).unwrap();
    let client = ClientTls::load(&make(&other), &[]).unwrap();
    let (_, first) = handshake(&server, &client).unwrap();
    let server = ServerTls::load(&make(&one), &[]).unwrap();
    let (_, second) = handshake(&server, &client).unwrap();
    assert_eq!(first, second);
    let key = std::fs::metadata(one.path().join("fixtures/peer/key.pem")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&key.permissions()) & 0o777, 0o600);
}

#[test]
fn a_client_that_trusts_an_automatic_certificate_checks_it() {
    let dir = TempDir::new().unwrap();
    let hosts = [HOST.to_owned()];
    let protocol = Protocol::default();
    let automatic = Files::automatic(dir.path(), &hosts, 1, protocol, FlagNames::CLIENTS).unwrap();
    let trust = Trust::File(automatic.shown.cert.clone());
    let client = ClientTls::load(&Files { trust, ..automatic.clone() }, &[]).unwrap();
    handshake(&ServerTls::load(&automatic, &[]).unwrap(), &client).unwrap();
}

#[test]
fn changed_files_are_in_force_at_the_next_handshake() {
    let folder = Folder::new();
    let files = folder.files(folder.issue("peer", Usage::Both));
    let server = ServerTls::load(&files, &[]).unwrap();
    let client = ClientTls::load(&files, &[]).unwrap();
    let (_, before) = handshake(&server, &client).unwrap();
    assert!(Arc::ptr_eq(&server.current(), &server.current()), "nothing changed");
    folder.issue("peer", Usage::Both);
    let (_, after) = handshake(&server, &client).unwrap();
    assert_ne!(before, after);
}

#[test]
fn files_that_are_half_changed_leave_the_old_in_force() {
    let folder = Folder::new();
    let files = folder.files(folder.issue("peer", Usage::Both));
    let server = ServerTls::load(&files, &[]).unwrap();
    let client = ClientTls::load(&files, &[]).unwrap();
    let (_, before) = handshake(&server, &client).unwrap();
    let other = folder.issue("other", Usage::Both);
    std::fs::copy(&other.cert, &files.shown.cert).unwrap();
    let (_, half) = handshake(&server, &client).unwrap();
    assert_eq!(before, half);
    std::fs::copy(&other.key, &files.shown.key).unwrap();
    let (_, after) = handshake(&server, &client).unwrap();
    assert_ne!(before, after);
    std::fs::remove_file(&files.shown.cert).unwrap();
    let (_, gone) = handshake(&server, &client).unwrap();
    assert_eq!(after, gone);
}

#[test]
fn a_revoked_certificate_is_refused() {
    let folder = Folder::new();
    let peer = folder.issue("peer", Usage::Both);
    let list = folder.dir.path().join("revoked.pem");
    let other = folder.issue("other", Usage::Both);
    std::fs::write(&list, folder.revocation_list(&other)).unwrap();
    let files = Files { revoked: Some(list.clone()), ..folder.files(peer.clone()) };
    let server = ServerTls::load(&files, &[]).unwrap();
    let client = ClientTls::load(&files, &[]).unwrap();
    handshake(&server, &client).unwrap();
    std::fs::write(&list, folder.revocation_list(&peer)).unwrap();
    let error = handshake(&server, &client).unwrap_err();
    assert!(error.contains("Revoked"), "{error}");
}

/// An authority is replaced while its old one is still trusted, then the old one goes.
#[test]
fn a_changed_authority_is_in_force_at_the_next_handshake() {
    let (old, new) = (Folder::new(), Folder::new());
    let trusted = old.dir.path().join("trusted.pem");
    let authority = |folder: &Folder| std::fs::read_to_string(folder.dir.path().join("ca.crt"));
    let (old_ca, new_ca) = (authority(&old).unwrap(), authority(&new).unwrap());
    std::fs::write(&trusted, &old_ca).unwrap();
    let trust = Trust::File(trusted.clone());
    let files = Files { trust: trust.clone(), ..old.files(old.issue("peer", Usage::Both)) };
    let renewed = Files { trust, ..new.files(new.issue("peer", Usage::Both)) };
    let server = ServerTls::load(&files, &[]).unwrap();
    let by_old = ClientTls::load(&files, &[]).unwrap();
    let by_new = ClientTls::load(&renewed, &[]).unwrap();
    handshake(&server, &by_old).unwrap();
    assert!(handshake(&server, &by_new).is_err());

    std::fs::write(&trusted, format!("{old_ca}{new_ca}")).unwrap();
    handshake(&server, &by_old).unwrap();
    handshake(&server, &by_new).unwrap();

    for (from, to) in
        [(&renewed.shown.cert, &files.shown.cert), (&renewed.shown.key, &files.shown.key)]
    {
        std::fs::copy(from, to).unwrap();
    }
    std::fs::write(&trusted, &new_ca).unwrap();
    handshake(&server, &by_new).unwrap();
    let stranger = old.files(old.issue("other", Usage::Both));
    let stranger = Files { trust: files.trust.clone(), ..stranger };
    let error = handshake(&server, &ClientTls::load(&stranger, &[]).unwrap()).unwrap_err();
    assert!(error.starts_with("server: invalid peer certificate"), "{error}");
}

#[test]
fn only_allowed_names_get_in_and_only_allowed_names_are_gone_to() {
    let folder = Folder::new();
    let (m1, m2) = (folder.issue("m1", Usage::Both), folder.issue("m2", Usage::Both));
    let allowing = |pair: &Pair, names: &[&str]| Files {
        allowed: Allowed::Names(names.iter().map(|name| (*name).to_owned()).collect()),
        ..folder.files(pair.clone())
    };
    let (open1, open2) = (folder.files(m1.clone()), folder.files(m2.clone()));
    let shake = |server: &Files, client: &Files| {
        let server = ServerTls::load(server, &[]).unwrap();
        handshake(&server, &ClientTls::load(client, &[]).unwrap())
    };
    shake(&allowing(&m1, &["m3", "m2"]), &open2).unwrap();
    let error = shake(&allowing(&m1, &["m3"]), &open2).unwrap_err();
    assert!(error.contains("client certificate authentication failed"), "{error}");
    assert!(error.starts_with("server"), "{error}");
    shake(&open1, &allowing(&m2, &["m1"])).unwrap();
    let error = shake(&open1, &allowing(&m2, &["m3"])).unwrap_err();
    assert!(error.starts_with("client"), "{error}");
}

#[test]
fn only_certificates_for_allowed_hosts_get_in() {
    let folder = Folder::new();
    let hosts = [HOST.to_owned(), "*.example.com".to_owned()];
    let pair = folder.authority.issue(folder.dir.path(), "m1", &hosts, Usage::Both).unwrap();
    let client = folder.files(pair.clone());
    for (allowed, gets_in) in [
        (&["a.example.com"][..], true),
        (&["other.com", "b.example.com"], true),
        (&["127.0.0.1"], true),
        (&["example.com"], false),
        (&["127.0.0.2"], false),
    ] {
        let allowed = Allowed::Hosts(allowed.iter().map(|host| (*host).to_owned()).collect());
        let server = Files { allowed: allowed.clone(), ..folder.files(pair.clone()) };
        let server = ServerTls::load(&server, &[]).unwrap();
        let shaken = handshake(&server, &ClientTls::load(&client, &[]).unwrap());
        assert_eq!(shaken.is_ok(), gets_in, "{allowed:?}: {shaken:?}");
    }
}

#[test]
fn a_revoked_certificate_is_not_gone_to_either() {
    let folder = Folder::new();
    let (peer, other) = (folder.issue("peer", Usage::Both), folder.issue("other", Usage::Both));
    let list = folder.dir.path().join("revoked.pem");
    std::fs::write(&list, folder.revocation_list(&peer)).unwrap();
    let careful = Files { revoked: Some(list), ..folder.files(other) };
    let server = ServerTls::load(&folder.files(peer), &[]).unwrap();
    let error = handshake(&server, &ClientTls::load(&careful, &[]).unwrap()).unwrap_err();
    assert!(error.starts_with("client") && error.contains("Revoked"), "{error}");
}

#[test]
fn suites_of_tls_12_are_chosen_by_gos_names() {
    let suites = |names: &[&str]| {
        Suites::parse(&names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
    };
    let folder = Folder::new();
    let files = folder.files(folder.issue("peer", Usage::Both));
    let with = |names: &[&str], versions: Versions| Files {
        protocol: Protocol { versions, suites: suites(names).unwrap() },
        ..files.clone()
    };
    let (one, other) =
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305");
    let shake = |server: &Files, client: &Files| {
        let server = ServerTls::load(server, &[]).unwrap();
        handshake(&server, &ClientTls::load(client, &[]).unwrap()).is_ok()
    };
    let only_12 = Versions::Only12;
    assert!(shake(&with(&[one], only_12), &with(&[other, one], only_12)));
    assert!(!shake(&with(&[one], only_12), &with(&[other], only_12)));
    assert!(shake(&with(&[one], Versions::Both), &with(&[other], Versions::Both)), "TLS 1.3");
    assert_eq!(
        suites(&[one, "TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap_err(),
        "TLS_RSA_WITH_AES_128_CBC_SHA"
    );
}

#[test]
fn a_pair_for_dialling_that_cannot_be_used_is_refused_by_the_server_too() {
    let folder = Folder::new();
    let missing = folder.dir.path().join("missing");
    let dialling = Some(Pair { cert: missing.clone(), key: missing });
    let files = Files { dialling, ..folder.files(folder.issue("peer", Usage::Both)) };
    let error = ServerTls::load(&files, &[]).err().unwrap();
    assert_eq!(error.about().as_deref(), Some("--peer-client-cert-file"));
}

#[test]
fn a_common_name_is_read_out_of_a_certificate() {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let folder = Folder::new();
    let pair = folder.issue("alice", Usage::Client);
    let certificate = CertificateDer::from_pem_file(&pair.cert).unwrap();
    assert_eq!(x509::subject_name(&certificate).as_deref(), Some("alice"));
}

#[test]
fn files_that_cannot_be_used_are_refused_by_flag_and_file() {
    let folder = Folder::new();
    let (peer, other) = (folder.issue("peer", Usage::Both), folder.issue("other", Usage::Both));
    let empty = folder.dir.path().join("empty");
    std::fs::write(&empty, "").unwrap();
    let missing = folder.dir.path().join("missing");
    let good = folder.files(peer.clone());
    let with = |cert: &PathBuf, key: &PathBuf| Files {
        shown: Pair { cert: cert.clone(), key: key.clone() },
        ..good.clone()
    };
    let trusting = |path: &PathBuf| Files { trust: Trust::File(path.clone()), ..good.clone() };
    let cases = [
        (with(&missing, &peer.key), "--peer-cert-file", "missing: no such file or directory"),
        (with(&empty, &peer.key), "--peer-cert-file", "empty: holds no certificate"),
        (with(&peer.cert, &missing), "--peer-key-file", "missing: no such file or directory"),
        (with(&peer.cert, &empty), "--peer-key-file", "empty: holds no private key"),
        (with(&peer.cert, &other.key), "--peer-cert-file", "other.key"),
        (trusting(&missing), "--peer-trusted-ca-file", "missing: no such file or directory"),
        (trusting(&empty), "--peer-trusted-ca-file", "empty: holds no certificate"),
        (Files { revoked: Some(empty.clone()), ..good.clone() }, "--peer-crl-file", "empty: "),
    ];
    for (files, flag, what) in cases {
        let Err(error) = ServerTls::load(&files, &[]) else { panic!("{flag} {what}") };
        let error = format!("{error} {}", error.about().unwrap_or_default());
        assert!(error.contains(flag) && error.contains(what), "{error}");
    }
}
