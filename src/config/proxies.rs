//! The proxies that the environment names, by the variables that Go's programs go by.

use std::ffi::OsString;

use crate::raft::network::Proxies;

/// As Go has it, and so etcd: the name in capitals first, and what is empty is not set. The
/// variables belong to no flag, so they hold beside a file too. A `REQUEST_METHOD` beside them,
/// which makes a Go program distrust `HTTP_PROXY`, means nothing here: a member is no CGI script.
pub(super) fn of_environment(environment: &[(OsString, OsString)]) -> Proxies {
    let value = |name: &str| {
        let mut named = environment.iter().filter(|(found, _)| found == name);
        named.next().and_then(|(_, value)| value.to_str()).filter(|value| !value.is_empty())
    };
    let either = |name: &str| value(name).or_else(|| value(&name.to_lowercase()));
    let [https, http, exempt] =
        ["HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"].map(|name| either(name).unwrap_or_default());
    Proxies::parse(https, http, exempt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(environment: &[(&str, &str)], https: &str, http: &str, exempt: &str) {
        let pairs = environment.iter().map(|(name, value)| (name.into(), value.into()));
        let found = of_environment(&pairs.collect::<Vec<_>>());
        assert_eq!(found, Proxies::parse(https, http, exempt), "{environment:?}");
    }

    #[test]
    fn capitals_come_first_and_what_is_empty_is_not_set() {
        check(&[], "", "", "");
        check(&[("HTTPS_PROXY", "a:1"), ("https_proxy", "b:2")], "a:1", "", "");
        check(&[("HTTPS_PROXY", ""), ("https_proxy", "b:2")], "b:2", "", "");
        check(&[("http_proxy", "b:2"), ("NO_PROXY", "x"), ("no_proxy", "y")], "", "b:2", "x");
        check(&[("REQUEST_METHOD", "GET"), ("HTTP_PROXY", "b:2")], "", "b:2", "");
    }
}
