//! Requests and answers of every kind that a run sends.

use orrery::proto::{
    etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse,
        LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
        LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
        PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader, TxnRequest,
        TxnResponse,
    },
    v3electionpb::{
        CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest,
        ProclaimResponse, ResignRequest, ResignResponse,
    },
    v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse},
};
use serde::{Deserialize, Serialize};

use super::wire;

macro_rules! kinds {
    ($($kind:ident($request:ty, $answer:ty)),* $(,)?) => {
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Request {
            $($kind(#[serde(with = "wire")] $request)),*
        }

        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Answer {
            $($kind(#[serde(with = "wire")] $answer)),*
        }

        impl Request {
            /// Its kind, as it is named here.
            pub fn kind(&self) -> &'static str {
                match self {
                    $(Request::$kind(_) => stringify!($kind)),*
                }
            }
        }

        impl Answer {
            pub fn header(&self) -> Option<&ResponseHeader> {
                match self {
                    $(Answer::$kind(answer) => answer.header.as_ref()),*
                }
            }
        }

        $(
            impl From<$request> for Request {
                fn from(request: $request) -> Request {
                    Request::$kind(request)
                }
            }

            impl From<$answer> for Answer {
                fn from(answer: $answer) -> Answer {
                    Answer::$kind(answer)
                }
            }

            impl TryFrom<Answer> for $answer {
                type Error = Answer;

                fn try_from(answer: Answer) -> Result<$answer, Answer> {
                    match answer {
                        Answer::$kind(answer) => Ok(answer),
                        other => Err(other),
                    }
                }
            }
        )*
    };
}

kinds! {
    Range(RangeRequest, RangeResponse),
    Put(PutRequest, PutResponse),
    DeleteRange(DeleteRangeRequest, DeleteRangeResponse),
    Txn(TxnRequest, TxnResponse),
    Compact(CompactionRequest, CompactionResponse),
    LeaseGrant(LeaseGrantRequest, LeaseGrantResponse),
    LeaseRevoke(LeaseRevokeRequest, LeaseRevokeResponse),
    LeaseKeepAlive(LeaseKeepAliveRequest, LeaseKeepAliveResponse),
    LeaseTimeToLive(LeaseTimeToLiveRequest, LeaseTimeToLiveResponse),
    Lock(LockRequest, LockResponse),
    Unlock(UnlockRequest, UnlockResponse),
    Campaign(CampaignRequest, CampaignResponse),
    Proclaim(ProclaimRequest, ProclaimResponse),
    Leader(LeaderRequest, LeaderResponse),
    Resign(ResignRequest, ResignResponse),
}

impl Answer {
    /// The revision that the answer's header gives; 0 without one.
    pub fn revision(&self) -> i64 {
        super::revision(self.header())
    }
}
