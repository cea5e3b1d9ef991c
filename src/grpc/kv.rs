//! The KV service.

mod chunks;
mod read_only;

use std::time::Instant;

use futures::stream;
use tonic::{Request, Response, Status, async_trait};
use tracing::Instrument;

use self::chunks::Chunks;
use crate::{
    grpc::{
        Limits,
        aside::{self, aside},
        gate::Admission,
        header::Header,
        metrics::Proposals,
        validate, who,
    },
    node::{Credentials, Error, Freshness, Reader, Who, space::cost, spans},
    proto::etcdserverpb::{
        CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest,
        PutResponse, RangeRequest, RangeResponse, TxnRequest, TxnResponse, kv_server,
    },
    telemetry::{METERS, Operation},
    types::Revision,
};

pub(crate) use read_only::is_read_only;

#[derive(Clone)]
pub(crate) struct Kv {
    pub(crate) proposals: Proposals,
    pub(crate) reader: Reader,
    pub(crate) credentials: Credentials,
    pub(crate) admission: Admission,
    pub(crate) header: Header,
    pub(crate) limits: Limits,
}

#[async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let (who, range) = (who::of(&request), request.into_inner());
        if !range.serializable {
            self.admission.voter_only()?;
        }
        validate::range(&range)?;
        let span = spans::of_range("range", &range);
        let mut response = self.read(&who, range).instrument(span).await?;
        self.header.fill(&mut response.header);
        Ok(aside::answer(response))
    }

    type RangeStreamStream = stream::Iter<Chunks>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let (who, range) = (who::of(&request), request.into_inner());
        validate::range_stream(&range)?;
        let span = spans::of_range("range_streaming", &range);
        let mut response = self.read(&who, range).instrument(span).await?;
        self.header.fill(&mut response.header);
        Ok(Response::new(stream::iter(Chunks::new(response, self.limits.max_request_bytes))))
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<PutResponse>, Status> {
        let (who, put) = (who::of(&request), request.into_inner());
        let cost = cost::put(&put);
        self.proposals.admit(cost).await?;
        validate::put(&put, &self.limits)?;
        self.proposals.check_alarm(cost).await?;
        let caller = self.credentials.caller(&who).await?;
        let mut response = self.proposals.propose(&caller, put).await?;
        self.header.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn delete_range(
        &self,
        request: Request<DeleteRangeRequest>,
    ) -> Result<Response<DeleteRangeResponse>, Status> {
        let (who, delete) = (who::of(&request), request.into_inner());
        validate::delete_range(&delete, &self.limits)?;
        let caller = self.credentials.caller(&who).await?;
        let mut response = self.proposals.propose(&caller, delete).await?;
        self.header.fill(&mut response.header);
        Ok(Response::new(response))
    }

    async fn txn(&self, request: Request<TxnRequest>) -> Result<Response<TxnResponse>, Status> {
        let (who, txn) = (who::of(&request), request.into_inner());
        let cost = cost::txn(&txn);
        self.proposals.admit(cost).await?;
        validate::txn(&txn, &self.limits)?;
        let mut response = match read_only::freshness(&txn) {
            Some(freshness) => {
                let span = spans::of_reading_txn(&txn);
                self.read_txn(&who, txn, freshness).instrument(span).await?
            }
            None => {
                validate::size(&txn, &self.limits)?;
                self.proposals.check_alarm(cost).await?;
                let caller = self.credentials.caller(&who).await?;
                self.proposals.propose(&caller, txn).await?
            }
        };
        self.header.fill(&mut response.header);
        Ok(aside::answer(response))
    }

    async fn compact(
        &self,
        request: Request<CompactionRequest>,
    ) -> Result<Response<CompactionResponse>, Status> {
        let (who, compact) = (who::of(&request), request.into_inner());
        validate::compact(&compact, &self.limits)?;
        let caller = self.credentials.caller(&who).await?;
        let revision = self.proposals.propose(&caller, compact).await?;
        if compact.physical {
            let floor = Revision::from_wire(compact.revision).unwrap_or(Revision::BEFORE_ALL);
            self.reader.compacted(floor).await?;
        }
        Ok(Response::new(CompactionResponse { header: self.header.at(revision) }))
    }
}

impl Kv {
    async fn read(&self, who: &Who, range: RangeRequest) -> Result<RangeResponse, Status> {
        let begun = Instant::now();
        let read = self.read_fresh(who, range).await;
        METERS.operations.requested(Operation::Range, read.is_ok(), begun.elapsed());
        read
    }

    async fn read_fresh(&self, who: &Who, range: RangeRequest) -> Result<RangeResponse, Status> {
        let freshness = if range.serializable { Freshness::Any } else { Freshness::Linearizable };
        let view = self.reader.view(freshness).await?;
        self.credentials.check(who, &view, |judge| judge.range(&range)).await?;
        let begun = Instant::now();
        let read = if range.range_end.is_empty() {
            view.keys().range(&range).map_err(|error| Error::from(error).into())
        } else {
            aside(move || view.keys().range(&range)).await
        };
        METERS.keys.ranges.inc();
        METERS.operations.read(read.is_ok(), begun.elapsed());
        read
    }

    async fn read_txn(
        &self,
        who: &Who,
        txn: TxnRequest,
        freshness: Freshness,
    ) -> Result<TxnResponse, Status> {
        let begun = Instant::now();
        let read = self.read_txn_fresh(who, txn, freshness).await;
        METERS.operations.requested(Operation::ReadonlyTxn, read.is_ok(), begun.elapsed());
        METERS.keys.ranges.inc_by(read.as_ref().map_or(0, |read| read.responses.len() as u64));
        read
    }

    async fn read_txn_fresh(
        &self,
        who: &Who,
        txn: TxnRequest,
        freshness: Freshness,
    ) -> Result<TxnResponse, Status> {
        let view = self.reader.view(freshness).await?;
        self.credentials.check(who, &view, |judge| judge.txn(&txn)).await?;
        if read_only::is_short(&txn) {
            return Ok(view.keys().txn(&txn).map_err(Error::from)?);
        }
        aside(move || view.keys().txn(&txn)).await
    }
}
