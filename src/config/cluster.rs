//! The cluster that a member without data founds or joins.

use super::{Error, Url};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// The cluster begins with these members.
    New,
    /// The cluster runs and has this member in its list already.
    Existing,
}

/// `--initial-cluster` and what belongs to it. Matters only until the member has data.
#[derive(Clone, Debug, PartialEq)]
pub struct Founding {
    pub state: ClusterState,
    pub token: String,
    /// Names with their peer URLs, both sorted; one name may have several URLs.
    pub members: Vec<(String, Vec<Url>)>,
}

impl Founding {
    /// Reads `name=url,name=url,...`.
    pub(crate) fn parse(text: &str, state: ClusterState, token: String) -> Result<Founding, Error> {
        let mut members: Vec<(String, Vec<Url>)> = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (name, url) = part.split_once('=').unwrap_or((part, ""));
            let url = Url::parse_advertised(url).map_err(Error::BadCluster)?;
            match members.iter_mut().find(|(known, _)| known == name) {
                Some((_, urls)) => urls.push(url),
                None => members.push((name.to_owned(), vec![url])),
            }
        }
        members.sort();
        for (_, urls) in &mut members {
            urls.sort();
        }
        Ok(Founding { state, token, members })
    }

    /// Whether a member with this name and these URLs can begin from nothing, as etcd checks it. A
    /// member that has data does not ask: it knows its cluster.
    ///
    /// # Errors
    /// Says which of the flags lacks what.
    pub fn check(&self, name: &str, advertise: &[Url]) -> Result<(), Error> {
        let Some((_, own)) = self.members.iter().find(|(known, _)| known == name) else {
            return Err(Error::NameNotInCluster {
                name: name.to_owned(),
                cluster: self.to_string(),
            });
        };
        if self.state == ClusterState::New {
            if let Some(missing) = missing(name, own, advertise) {
                let (set, differ) = (join(advertise), difference(advertise, own));
                return Err(Error::NotAdvertised { missing, set, differ });
            }
            if let Some(missing) = missing(name, advertise, own) {
                return Err(Error::NotInCluster { missing, set: self.to_string() });
            }
        }
        let mut urls: Vec<&Url> = self.members.iter().flat_map(|(_, urls)| urls).collect();
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(Error::DuplicateUrl(self.to_string()));
        }
        Ok(())
    }
}

impl std::fmt::Display for Founding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self
            .members
            .iter()
            .flat_map(|(name, urls)| urls.iter().map(move |url| format!("{name}={url}")));
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

/// Those of `urls` that `among` lacks, as `name=url,...`.
fn missing(name: &str, urls: &[Url], among: &[Url]) -> Option<String> {
    let lacking: Vec<String> = urls
        .iter()
        .filter(|url| !among.iter().any(|other| same(url, other)))
        .map(|url| format!("{name}={url}"))
        .collect();
    (!lacking.is_empty()).then(|| lacking.join(","))
}

/// etcd resolves host names here. Only the one name that means the same everywhere is resolved by
/// us; for any other the two flags must agree to the letter.
fn same(one: &Url, other: &Url) -> bool {
    let resolved = |url: &Url| url.as_str().replace("://localhost:", "://127.0.0.1:");
    resolved(one) == resolved(other)
}

/// In etcd's words, which compares sorted lists.
fn difference(one: &[Url], other: &[Url]) -> String {
    let quoted = |urls: &[Url]| {
        let urls: Vec<String> = urls.iter().map(|url| format!("{:?}", url.as_str())).collect();
        format!("[{}]", urls.join(" "))
    };
    if one.len() != other.len() {
        return format!("len({}) != len({})", quoted(one), quoted(other));
    }
    let mut pairs = one.iter().zip(other);
    match pairs.find(|(one, other)| !same(one, other)) {
        Some((one, other)) => {
            format!("resolved urls: {:?} != {:?}", one.as_str(), other.as_str())
        }
        None => String::new(),
    }
}

fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn founding(text: &str, state: ClusterState) -> Result<Founding, Error> {
        Founding::parse(text, state, "etcd-cluster".to_owned())
    }

    #[track_caller]
    fn check(cluster: &str, state: ClusterState, advertise: &str, error: Option<&str>) {
        let advertise: Vec<Url> =
            advertise.split(',').map(|url| Url::parse_advertised(url).unwrap()).collect();
        let checked = founding(cluster, state).unwrap().check("a", &advertise);
        assert_eq!(checked.err().map(|error| error.to_string()).as_deref(), error);
    }

    #[test]
    fn members_are_grouped_by_name_and_sorted() {
        let founding = founding("b=http://b:1,a=http://a:2,a=http://a:1", ClusterState::New);
        assert_eq!(founding.unwrap().to_string(), "a=http://a:1,a=http://a:2,b=http://b:1");
    }

    #[test]
    fn what_is_no_list_of_members_is_refused() {
        let message = |text: &str| founding(text, ClusterState::New).unwrap_err().to_string();
        let words = "error setting up initial cluster: URL scheme must be http, https, unix, or \
                     unixs: ";
        assert_eq!(message("a"), words);
        assert_eq!(message("a=x:1"), format!("{words}x:1"));
    }

    #[test]
    fn a_founder_must_find_itself_in_the_cluster() {
        use ClusterState::{Existing, New};
        check("a=http://h:1,b=http://h:2", New, "http://h:1", None);
        check("a=http://localhost:1", New, "http://127.0.0.1:1", None);
        let words = r#"couldn't find local name "a" in the initial cluster configuration"#;
        check("b=http://h:2", New, "http://h:1", Some(words));
        check("b=http://h:2", Existing, "http://h:1", Some(words));
        let words = "--initial-cluster has a=http://h:3 but missing from --initial-advertise-peer-urls=http://h:1 (resolved urls: \"http://h:1\" != \"http://h:3\")";
        check("a=http://h:3", New, "http://h:1", Some(words));
        let words = "--initial-advertise-peer-urls has a=http://h:2 but missing from --initial-cluster=a=http://h:1";
        check("a=http://h:1", New, "http://h:1,http://h:2", Some(words));
        check("a=http://h:3", Existing, "http://h:1", None);
        let words = "initial cluster a=http://h:1,b=http://h:1 has duplicate url";
        check("a=http://h:1,b=http://h:1", New, "http://h:1", Some(words));
    }
}
