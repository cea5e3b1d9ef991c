//! What flags say of HTTP: who may ask, and which pages there are besides etcd's usual ones.

use std::collections::BTreeSet;

use super::{
    Error, ListenUrl, Listeners, Url,
    check::{extra_listeners, urls},
    raw::RawConfig,
};

/// The flags about HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Where HTTP is served and gRPC is not; then the clients' listeners serve gRPC alone.
    pub listen: Vec<ListenUrl>,
    pub gateway: bool,
    /// Origins that browsers may send requests from; `*` or none for all.
    pub cors: BTreeSet<String>,
    /// Hosts that requests without TLS may name; `*` or none for all.
    pub host_whitelist: BTreeSet<String>,
    pub profiles: bool,
    pub metrics: Metrics,
}

/// How much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metrics {
    Basic,
    /// Histograms of each gRPC method, too.
    Extensive,
}

pub(super) fn http(raw: &RawConfig, clients: &Listeners) -> Result<Http, Error> {
    let listen = extra_listeners(raw, "listen-client-http-urls", clients)?;
    let taken = |listen: &&ListenUrl| clients.listen.iter().any(|it| it.address == listen.address);
    // Port 0 is never taken.
    if let Some(listen) = listen.iter().find(taken).filter(|listen| !listen.any_port()) {
        return Err(Error::BothListeners(listen.url.to_string()));
    }
    let origin = |text: &str| match text.trim() {
        "*" => Ok("*".to_owned()),
        origin => Url::parse(origin).map(|_| origin.to_owned()),
    };
    Ok(Http {
        listen,
        gateway: raw.bool("enable-grpc-gateway"),
        cors: urls(raw, "cors", origin, String::clone)?.into_iter().collect(),
        host_whitelist: names(raw.text("host-whitelist")),
        profiles: raw.bool("enable-pprof"),
        // As in etcd, every other word is basic.
        metrics: match raw.text("metrics") {
            "extensive" => Metrics::Extensive,
            _ => Metrics::Basic,
        },
    })
}

fn names(list: &str) -> BTreeSet<String> {
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::super::{Asked, Config};
    use super::*;

    fn read(arguments: &str) -> Result<Config, Error> {
        match Config::read(arguments.split_whitespace().map(OsString::from), [])? {
            Asked::Serve(config, _) => Ok(*config),
            Asked::Print(text) => panic!("{arguments}: {text}"),
        }
    }

    #[test]
    fn by_default_everybody_may_ask_for_etcds_usual_pages() {
        let http = read("").unwrap().http;
        let all = || BTreeSet::from(["*".to_owned()]);
        let (cors, host_whitelist) = (all(), all());
        let expected = Http {
            listen: Vec::new(),
            gateway: true,
            cors,
            host_whitelist,
            profiles: false,
            metrics: Metrics::Basic,
        };
        assert_eq!(http, expected);
    }

    #[test]
    fn the_flags_are_read() {
        let http = read(
            "--listen-client-http-urls=http://127.0.0.1:2381 --enable-grpc-gateway=false \
             --cors=http://a:80,https://b:443 --host-whitelist=x,y --enable-pprof \
             --metrics=extensive",
        )
        .unwrap()
        .http;
        assert_eq!(http.listen[0].url.as_str(), "http://127.0.0.1:2381");
        assert!(!http.gateway && http.profiles);
        assert_eq!(http.cors.into_iter().collect::<Vec<_>>(), ["http://a:80", "https://b:443"]);
        assert_eq!(http.host_whitelist.into_iter().collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(http.metrics, Metrics::Extensive);
    }

    #[track_caller]
    fn refuses(arguments: &str, message: &str) {
        assert_eq!(read(arguments).unwrap_err().to_string(), message, "{arguments}");
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        refuses(
            "--cors=example.com",
            r#"invalid value "example.com" for flag -cors: URL scheme must be http, https, unix, or unixs: example.com"#,
        );
        refuses(
            "--listen-client-http-urls=https://127.0.0.1:2381",
            "TLS key/cert (--cert-file, --key-file) must be provided for \
             client url https://127.0.0.1:2381 with HTTPS scheme",
        );
        refuses(
            "--listen-client-http-urls=http://127.0.0.1:2379",
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url \
             http://127.0.0.1:2379",
        );
    }
}
