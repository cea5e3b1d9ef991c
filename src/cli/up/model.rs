//! An apiModel of aks-engine, whose clusters had their etcd in Cosmos DB, with an account besides.

use serde_json::{Map, Value, json};

use super::account::{Account, ConsistencyPolicy, Level, Location, location_name};

/// What a file says.
#[derive(Debug, PartialEq)]
pub(super) struct Model {
    pub(super) dns_prefix: Option<String>,
    /// The write region.
    pub(super) location: Option<String>,
    /// `masterProfile.count`: as many API servers, not members.
    pub(super) api_servers: u64,
    pub(super) account: Option<Account>,
    /// What has no meaning here, and what was added; a line each.
    pub(super) warnings: Vec<String>,
    /// The whole file.
    pub(super) document: Value,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    #[error("line {line}, column {column}: not valid JSON: {why}{hint}")]
    Syntax { line: usize, column: usize, why: String, hint: &'static str },
    #[error("{at}: expected {expected}, found {found}")]
    Type { at: String, expected: &'static str, found: String },
    #[error("{at} is missing")]
    Missing { at: String },
    #[error("{at} is {found}, and only {expected} is known")]
    Unknown { at: &'static str, found: String, expected: &'static str },
    #[error(
        "masterProfile.cosmosEtcd is not true: such a cluster has its etcd on its masters, and there is \
         nothing to start here"
    )]
    NotCosmos,
}

impl Model {
    pub(super) fn parse(text: &str) -> Result<Model, Error> {
        let text = text.trim_start_matches('\u{feff}');
        let document: Value = serde_json::from_str(text).map_err(|error| syntax(&error, text))?;
        let mut reader = Reader { warnings: Vec::new() };
        let top = object(&document, "the file")?;
        let version = text_at(top, "", "apiVersion")?.unwrap_or_default();
        if version != "vlabs" {
            let at = "apiVersion";
            return Err(Error::Unknown {
                at,
                found: format!("{version:?}"),
                expected: "\"vlabs\"",
            });
        }
        reader.rest(top, "", &["apiVersion", "properties", "location"]);
        let properties = required(top, "", "properties")?;
        let properties = object(properties, "properties")?;
        let known = ["orchestratorProfile", "masterProfile", "databaseAccount"];
        reader.rest(properties, "", &known);
        reader.orchestrator(properties)?;
        let (dns_prefix, api_servers) = reader.master(properties)?;
        let account = match properties.get("databaseAccount") {
            None => None,
            Some(block) => Some(reader.account(object(block, "databaseAccount")?)?),
        };
        let location = text_at(top, "", "location")?.filter(|location| !location.is_empty());
        let location = location.map(location_name);
        let warnings = reader.warnings;
        Ok(Model { dns_prefix, location, api_servers, account, warnings, document })
    }

    /// What a cluster that no file describes is made of.
    pub(super) fn empty() -> Model {
        let document = json!({
            "apiVersion": "vlabs",
            "properties": {
                "orchestratorProfile": { "orchestratorType": "Kubernetes" },
                "masterProfile": { "count": 1, "cosmosEtcd": true },
            },
        });
        Model {
            dns_prefix: None,
            location: None,
            api_servers: 1,
            account: None,
            warnings: Vec::new(),
            document,
        }
    }

    /// The file with all that was left open in it.
    pub(super) fn filled_in(&self, dns_prefix: &str, account: &Account) -> Value {
        let mut document = self.document.clone();
        document["location"] = account.locations[0].location_name.clone().into();
        document["properties"]["masterProfile"]["dnsPrefix"] = dns_prefix.into();
        document["properties"]["databaseAccount"] = json!(account);
        document
    }
}

fn syntax(error: &serde_json::Error, text: &str) -> Error {
    let why = error.to_string();
    let why = why.split(" at line ").next().unwrap_or_default().to_owned();
    // The listing in the article that people copy has lost some of its lines.
    let hint = match text.trim_start().starts_with('{') {
        true => "",
        false => " (a file begins with a brace; lines are missing)",
    };
    Error::Syntax { line: error.line(), column: error.column(), why, hint }
}

/// Goes through a file, and notes what it goes past.
struct Reader {
    warnings: Vec<String>,
}

impl Reader {
    /// What else is there.
    fn rest(&mut self, object: &Map<String, Value>, at: &str, known: &[&str]) {
        for name in object.keys().filter(|name| !known.contains(&name.as_str())) {
            let at = join(at, name);
            self.warnings.push(format!("apimodel: {at} has no meaning here"));
        }
    }

    fn orchestrator(&mut self, properties: &Map<String, Value>) -> Result<(), Error> {
        let Some(profile) = properties.get("orchestratorProfile") else { return Ok(()) };
        let at = "orchestratorProfile";
        let profile = object(profile, at)?;
        match text_at(profile, at, "orchestratorType")? {
            None | Some("Kubernetes") => {}
            Some(other) => {
                let at = "orchestratorProfile.orchestratorType";
                let found = format!("{other:?}");
                return Err(Error::Unknown { at, found, expected: "\"Kubernetes\"" });
            }
        }
        self.rest(profile, at, &["orchestratorType"]);
        Ok(())
    }

    fn master(&mut self, properties: &Map<String, Value>) -> Result<(Option<String>, u64), Error> {
        let at = "masterProfile";
        let profile = object(required(properties, "", at)?, at)?;
        match profile.get("cosmosEtcd") {
            Some(Value::Bool(true)) => {}
            None | Some(Value::Bool(false)) => return Err(Error::NotCosmos),
            Some(other) => return Err(wrong(&join(at, "cosmosEtcd"), "true", other)),
        }
        let count = number_at(profile, at, "count")?.unwrap_or(1);
        if count == 0 {
            return Err(wrong(&join(at, "count"), "1 or more", &profile["count"]));
        }
        let prefix = text_at(profile, at, "dnsPrefix")?.filter(|prefix| !prefix.is_empty());
        self.rest(profile, at, &["cosmosEtcd", "count", "dnsPrefix"]);
        Ok((prefix.map(str::to_owned), count))
    }

    fn account(&mut self, block: &Map<String, Value>) -> Result<Account, Error> {
        let at = "databaseAccount";
        let known = ["locations", "consistencyPolicy", "enableAutomaticFailover"];
        self.rest(block, at, &known);
        let list = required(block, at, "locations")?;
        let at_list = join(at, "locations");
        let Value::Array(list) = list else { return Err(wrong(&at_list, "a list", list)) };
        let mut locations = Vec::new();
        for (number, location) in list.iter().enumerate() {
            let at = format!("{at_list}[{number}]");
            let location = object(location, &at)?;
            self.rest(location, &at, &["locationName", "failoverPriority"]);
            let missing = |name: &str| Error::Missing { at: join(&at, name) };
            let name = text_at(location, &at, "locationName")?;
            let name = location_name(name.ok_or_else(|| missing("locationName"))?);
            let priority = number_at(location, &at, "failoverPriority")?;
            let failover_priority = priority.ok_or_else(|| missing("failoverPriority"))?;
            locations.push(Location { location_name: name, failover_priority });
        }
        locations.sort_by_key(|location| location.failover_priority);
        let enable_automatic_failover = match block.get("enableAutomaticFailover") {
            Some(Value::Bool(choice)) => *choice,
            None => {
                let text =
                    "apimodel: missing databaseAccount.enableAutomaticFailover will use true";
                self.warnings.push(text.to_owned());
                true
            }
            Some(other) => {
                return Err(wrong(&join(at, "enableAutomaticFailover"), "true or false", other));
            }
        };
        let consistency_policy = self.consistency(block)?;
        Ok(Account { locations, consistency_policy, enable_automatic_failover })
    }

    fn consistency(&mut self, block: &Map<String, Value>) -> Result<ConsistencyPolicy, Error> {
        let at = "databaseAccount.consistencyPolicy";
        let Some(policy) = block.get("consistencyPolicy") else {
            return Ok(ConsistencyPolicy::STRONG);
        };
        let policy = object(policy, at)?;
        let level = required(policy, at, "defaultConsistencyLevel")?;
        let known = level.as_str().and_then(Level::parse);
        let level = known.ok_or_else(|| {
            let expected = "Strong, BoundedStaleness, Session, ConsistentPrefix or Eventual";
            wrong(&join(at, "defaultConsistencyLevel"), expected, level)
        })?;
        let bounds = ["maxStalenessPrefix", "maxIntervalInSeconds"];
        let mut fields = vec!["defaultConsistencyLevel"];
        if level == Level::BoundedStaleness {
            fields.extend(bounds);
        }
        self.rest(policy, at, &fields);
        let bound = |name: &str| match level {
            Level::BoundedStaleness => number_at(policy, at, name),
            Level::Strong | Level::Session | Level::ConsistentPrefix | Level::Eventual => Ok(None),
        };
        Ok(ConsistencyPolicy {
            default_consistency_level: level,
            max_staleness_prefix: bound(bounds[0])?,
            max_interval_in_seconds: bound(bounds[1])?,
        })
    }
}

fn join(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

fn wrong(at: &str, expected: &'static str, found: &Value) -> Error {
    let found = match found {
        Value::Object(_) => "an object".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        other => other.to_string(),
    };
    Error::Type { at: at.to_owned(), expected, found }
}

fn object<'a>(value: &'a Value, at: &str) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| wrong(at, "an object", value))
}

fn required<'a>(object: &'a Map<String, Value>, at: &str, name: &str) -> Result<&'a Value, Error> {
    object.get(name).ok_or_else(|| Error::Missing { at: join(at, name) })
}

fn text_at<'a>(
    object: &'a Map<String, Value>,
    at: &str,
    name: &str,
) -> Result<Option<&'a str>, Error> {
    let value = object.get(name);
    value.map(|it| it.as_str().ok_or_else(|| wrong(&join(at, name), "a text", it))).transpose()
}

fn number_at(object: &Map<String, Value>, at: &str, name: &str) -> Result<Option<u64>, Error> {
    let value = object.get(name);
    value
        .map(|it| it.as_u64().ok_or_else(|| wrong(&join(at, name), "a whole number", it)))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARTICLE: &str = include_str!("../../../tests/fixtures/api-model/article.json");
    const BROKEN: &str = include_str!("../../../tests/fixtures/api-model/broken.json");

    #[test]
    fn the_articles_file_means_what_it_meant() {
        let model = Model::parse(ARTICLE).unwrap();
        assert_eq!((model.dns_prefix, model.api_servers, model.account), (None, 1, None));
        let meaningless = [
            "agentPoolProfiles",
            "linuxProfile",
            "orchestratorProfile.kubernetesConfig",
            "masterProfile.vmSize",
        ];
        let expected = meaningless.map(|at| format!("apimodel: {at} has no meaning here"));
        assert_eq!(model.warnings, expected);
    }

    #[test]
    fn an_account_is_described_as_arm_describes_it() {
        let text = r#"{"apiVersion": "vlabs", "properties": {
            "masterProfile": {"count": 3, "dnsPrefix": "p", "cosmosEtcd": true},
            "databaseAccount": {
                "locations": [
                    {"locationName": "West Europe", "failoverPriority": 1, "isZoneRedundant": true},
                    {"locationName": "eastus", "failoverPriority": 0}],
                "consistencyPolicy": {"defaultConsistencyLevel": "BoundedStaleness",
                    "maxStalenessPrefix": 100, "maxIntervalInSeconds": 5},
                "enableAutomaticFailover": false,
                "capabilities": [{"name": "EnableEtcd"}]}}}"#;
        let model = Model::parse(text).unwrap();
        let account = model.account.as_ref().unwrap();
        assert_eq!(account.regions(), ["eastus", "westeurope"]);
        assert!(!account.enable_automatic_failover);
        assert_eq!(account.consistency_policy.max_staleness_prefix, Some(100));
        assert_eq!((model.dns_prefix.as_deref(), model.api_servers), (Some("p"), 3));
        let meaningless =
            ["databaseAccount.capabilities", "databaseAccount.locations[0].isZoneRedundant"];
        let expected = meaningless.map(|at| format!("apimodel: {at} has no meaning here"));
        assert_eq!(model.warnings, expected);
        let filled_in = model.filled_in("p", account).to_string();
        let again = Model::parse(&filled_in).unwrap();
        assert_eq!(again.account.as_ref(), Some(account));
        assert_eq!(again.location.as_deref(), Some("eastus"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        #[track_caller]
        fn check(text: &str, expected: &str) {
            assert_eq!(Model::parse(text).unwrap_err().to_string(), expected);
        }
        let lines = "line 1, column 14: not valid JSON: trailing characters (a file begins with a \
                     brace; lines are missing)";
        check(BROKEN, lines);
        let open = "line 1, column 22: not valid JSON: EOF while parsing an object";
        check(r#"{"apiVersion":"vlabs""#, &open.replace("22", "21"));
        check("[]", "the file: expected an object, found a list");
        check("{}", "apiVersion is \"\", and only \"vlabs\" is known");
        check(r#"{"apiVersion":"vlabs"}"#, "properties is missing");
        let properties =
            |inside: &str| format!(r#"{{"apiVersion":"vlabs","properties":{{{inside}}}}}"#);
        check(&properties(""), "masterProfile is missing");
        let not_cosmos = Error::NotCosmos.to_string();
        check(&properties(r#""masterProfile":{}"#), &not_cosmos);
        check(&properties(r#""masterProfile":{"cosmosEtcd":false}"#), &not_cosmos);
        check(
            &properties(r#""masterProfile":{"cosmosEtcd":"yes"}"#),
            "masterProfile.cosmosEtcd: expected true, found \"yes\"",
        );
        check(
            &properties(r#""masterProfile":{"cosmosEtcd":true,"count":"1"}"#),
            "masterProfile.count: expected a whole number, found \"1\"",
        );
        check(
            &properties(r#""orchestratorProfile":{"orchestratorType":"Swarm"}"#),
            "orchestratorProfile.orchestratorType is \"Swarm\", and only \"Kubernetes\" is known",
        );
        let account = |inside: &str| {
            let master = r#""masterProfile":{"cosmosEtcd":true}"#;
            properties(&format!(r#"{master},"databaseAccount":{{{inside}}}"#))
        };
        check(&account(""), "databaseAccount.locations is missing");
        check(
            &account(r#""locations":[{"locationName":"eastus"}]"#),
            "databaseAccount.locations[0].failoverPriority is missing",
        );
        check(
            &account(r#""locations":[],"consistencyPolicy":{"defaultConsistencyLevel":"Weak"}"#),
            "databaseAccount.consistencyPolicy.defaultConsistencyLevel: expected Strong, \
             BoundedStaleness, Session, ConsistentPrefix or Eventual, found \"Weak\"",
        );
    }
}
