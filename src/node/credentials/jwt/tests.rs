//! Tokens of every algorithm, and what is wrong with others.

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/token").join(name)
}

fn files(sign_method: &str, private: &str, public: &str) -> Files {
    let file = |name: &str| (!name.is_empty()).then(|| path(name));
    Files {
        sign_method: sign_method.to_owned(),
        public_key: file(public),
        private_key: file(private),
        ttl: TTL,
    }
}

fn load(sign_method: &str, private: &str, public: &str) -> Jwt {
    Jwt::load(&files(sign_method, private, public)).unwrap()
}

#[test]
fn a_signed_token_names_its_user() {
    for (methods, private, public) in [
        (&["HS256", "HS384", "HS512"][..], "rsa.crt", ""),
        (&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"], "rsa.key", "rsa.crt"),
        (&["RS256"], "rsa.key", "rsa.pub"),
        (&["ES256"], "ec.key", "ec.pub"),
        (&["ES384"], "ec384.key", ""),
        (&["EdDSA"], "ed25519.key", "ed25519.pub"),
    ] {
        for method in methods {
            let jwt = load(method, private, public);
            let token = jwt.sign("u", 7).unwrap();
            assert_eq!(jwt.verify(&token), Some(("u".to_owned(), 7)), "{method}");
            let soon = unix_now() + TTL / 2;
            assert!(jwt.verify_at(&token, soon).is_some(), "{method}");
            assert_eq!(jwt.verify_at(&token, unix_now() + TTL * 2), None, "{method}: its end");
            if !public.is_empty() {
                let checks_only = load(method, "", public);
                assert_eq!(checks_only.sign("u", 7), None);
                assert_eq!(checks_only.verify(&token), Some(("u".to_owned(), 7)), "{method}");
            }
        }
    }
}

#[test]
fn what_is_not_signed_by_this_key_and_method_is_refused() {
    let jwt = load("RS256", "rsa.key", "");
    let token = jwt.sign("u", 7).unwrap();
    let (head, signature) = token.rsplit_once('.').unwrap();
    let (header, claims) = head.split_once('.').unwrap();
    for other in [load("RS512", "rsa.key", ""), load("PS256", "rsa.key", "")] {
        assert_eq!(other.verify(&token), None);
        assert_eq!(jwt.verify(&other.sign("u", 7).unwrap()), None);
    }
    // Signed with the public key as if it were a secret, and not signed at all.
    let forged = load("HS256", "rsa.crt", "").sign("root", 7).unwrap();
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#);
    let of_another = encode(&json!({ "username": "root", "revision": 7 }));
    for text in [
        forged,
        format!("{none}.{claims}."),
        format!("{none}.{claims}.{signature}"),
        format!("{header}.{of_another}.{signature}"),
        format!("{header}.{claims}."),
        format!("{header}.{claims}"),
        format!("{header}.{claims}.{signature}."),
        format!("{header}.{claims}.{signature}="),
        String::new(),
        "..".to_owned(),
    ] {
        assert_eq!(jwt.verify(&text), None, "{text}");
    }
}

#[test]
fn claims_must_make_sense() {
    let jwt = load("HS256", "rsa.crt", "");
    let now = Duration::from_secs(1000);
    let check = |claims: Value, expected: Option<u64>| {
        let header = encode(&json!({ "alg": "HS256" }));
        let signed = format!("{header}.{}", encode(&claims));
        let signature = URL_SAFE_NO_PAD.encode(jwt.key.sign(signed.as_bytes()).unwrap());
        let verified = jwt.verify_at(&format!("{signed}.{signature}"), now);
        assert_eq!(verified.map(|(_, revision)| revision), expected, "{claims}");
    };
    check(json!({ "username": "u", "revision": 7 }), Some(7));
    check(json!({ "username": "u", "revision": 7.0, "exp": 1001, "nbf": 1000 }), Some(7));
    check(json!({ "username": "u", "revision": 7, "exp": 1000 }), None);
    check(json!({ "username": "u", "revision": 7, "exp": "never" }), None);
    check(json!({ "username": "u", "revision": 7, "nbf": 1001 }), None);
    check(json!({ "username": "u", "revision": 7, "nbf": null }), None);
    check(json!({ "username": "u" }), None);
    check(json!({ "username": "u", "revision": "7" }), None);
    check(json!({ "username": "u", "revision": -1 }), None);
    check(json!({ "username": 1, "revision": 7 }), None);
    check(json!({ "revision": 7 }), None);
    check(json!([]), None);
}

#[test]
fn keys_that_do_not_fit_are_refused_by_name() {
    #[track_caller]
    fn check(sign_method: &str, private: &str, public: &str, expected: &str) {
        let error = Jwt::load(&files(sign_method, private, public)).unwrap_err();
        let error = format!("{error} ({})", error.about().unwrap_or_default());
        assert!(error.contains(expected), "{error}");
    }
    check("RS256", "", "", "auth: missing key data");
    check("HS256", "", "rsa.pub", "auth: missing key data");
    check("RS256", "nowhere", "", "auth: invalid auth options (");
    check("RS256", "ec.key", "", "ec.key holds no key for sign-method RS256");
    check("ES256", "ec384.key", "", "ec384.key holds no key for sign-method ES256");
    check("EdDSA", "rsa.key", "", "rsa.key holds no key for sign-method EdDSA");
    check("ES256", "ec.key", "rsa.crt", "rsa.crt holds no key for sign-method ES256");
    check("ES384", "ec384.key", "ec.pub", "auth: public and private keys don't match");
    check("RS256", "", "README.md", "README.md holds no key");
    check("ES512", "ec.key", "", "ES512 is not supported");
    check("XS256", "ec.key", "", "unknown sign-method \"XS256\"");
}
