//! `--auth-token`, `--auth-token-ttl` and `--bcrypt-cost`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use super::{Error, Warning, duration, raw::RawConfig};

/// How users come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    pub token: AuthToken,
    /// From 4 to 31.
    pub bcrypt_cost: u32,
}

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthToken {
    /// There are none.
    None,
    Simple {
        ttl: Duration,
    },
    Jwt {
        sign_method: String,
        public_key: Option<PathBuf>,
        private_key: Option<PathBuf>,
        ttl: Duration,
    },
}

const COSTS: std::ops::RangeInclusive<u32> = 4..=31;
const COST_DEFAULT: u32 = 10;
const TTL_DEFAULT: Duration = Duration::from_mins(5);
const JWT_OPTIONS: [&str; 4] = ["sign-method", "pub-key", "priv-key", "ttl"];

pub(super) fn check(raw: &RawConfig, warnings: &mut Vec<Warning>) -> Result<Auth, Error> {
    let given = raw.count("bcrypt-cost");
    let cost = u32::try_from(given).ok().filter(|cost| COSTS.contains(cost));
    if cost.is_none() {
        warnings.push(Warning::BcryptCost(given));
    }
    let bcrypt_cost = cost.unwrap_or(COST_DEFAULT);
    Ok(Auth { token: token(raw, warnings)?, bcrypt_cost })
}

fn token(raw: &RawConfig, warnings: &mut Vec<Warning>) -> Result<AuthToken, Error> {
    let invalid = Error::BadAuthToken;
    let mut parts = raw.text("auth-token").split(',');
    let kind = parts.next().unwrap_or_default();
    let mut options = BTreeMap::new();
    for part in parts {
        let (name, value) = part
            .split_once('=')
            .filter(|(_, value)| !value.contains('='))
            .ok_or_else(|| invalid("each option is a name and a value"))?;
        if options.insert(name, value).is_some() {
            return Err(invalid("an option is given twice"));
        }
    }
    match kind {
        "" => Ok(AuthToken::None),
        "simple" => {
            // As in etcd, no time stands for the default.
            let ttl = Some(Duration::from_secs(raw.count("auth-token-ttl")));
            let ttl = ttl.filter(|ttl| !ttl.is_zero()).unwrap_or(TTL_DEFAULT);
            Ok(AuthToken::Simple { ttl })
        }
        "jwt" => {
            let mut option = |name| options.remove(name).filter(|value| !value.is_empty());
            let [sign_method, public_key, private_key, ttl] = JWT_OPTIONS.map(&mut option);
            if !options.is_empty() {
                let names = options.into_keys().map(str::to_owned);
                warnings.push(Warning::UnknownTokenOptions(names.collect()));
            }
            let ttl = ttl.map_or(Some(TTL_DEFAULT), duration::parse);
            Ok(AuthToken::Jwt {
                sign_method: sign_method.ok_or_else(|| invalid("sign-method is missing"))?.into(),
                public_key: public_key.map(PathBuf::from),
                private_key: private_key.map(PathBuf::from),
                ttl: ttl.ok_or_else(|| invalid("ttl is no duration"))?,
            })
        }
        _ => Err(invalid("expected simple or jwt")),
    }
}
