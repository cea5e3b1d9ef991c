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
        consistency::{Asked, Facts, Levels},
        gate::Admission,
        header::Header,
        metrics::Proposals,
        validate, who,
    },
    node::{Credentials, Error, Fresh, Reader, Who, space::cost, spans},
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
    pub(crate) levels: Levels,
    pub(crate) limits: Limits,
}

#[async_trait]
impl kv_server::Kv for Kv {
    async fn range(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<RangeResponse>, Status> {
        let asked = self.levels.of(&request, request.get_ref().serializable).await?;
        let (who, range) = (who::of(&request), request.into_inner());
        if !asked.is_local() {
            self.admission.voter_only()?;
        }
        validate::range(&range)?;
        let span = spans::of_range("range", &range);
        let (mut response, facts) = self.read(&who, range, &asked).instrument(span).await?;
        self.header.fill(&mut response.header);
        let mut answer = aside::answer(response);
        self.levels.tell(&asked, facts, answer.metadata_mut());
        Ok(answer)
    }

    type RangeStreamStream = stream::Iter<Chunks>;

    async fn range_stream(
        &self,
        request: Request<RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        let asked = self.levels.of(&request, request.get_ref().serializable).await?;
        let (who, range) = (who::of(&request), request.into_inner());
        validate::range_stream(&range)?;
        let span = spans::of_range("range_streaming", &range);
        let (mut response, facts) = self.read(&who, range, &asked).instrument(span).await?;
        self.header.fill(&mut response.header);
        let chunks = Chunks::new(response, self.limits.max_request_bytes);
        let mut answer = Response::new(stream::iter(chunks));
        self.levels.tell(&asked, facts, answer.metadata_mut());
        Ok(answer)
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
        // What may change something is always judged by the newest state.
        let asked = match read_only::is_serializable(request.get_ref()) {
            Some(serializable) => Some(self.levels.of(&request, serializable).await?),
            None => None,
        };
        let (who, txn) = (who::of(&request), request.into_inner());
        let cost = cost::txn(&txn);
        self.proposals.admit(cost).await?;
        validate::txn(&txn, &self.limits)?;
        let Some(asked) = asked else {
            validate::size(&txn, &self.limits)?;
            self.proposals.check_alarm(cost).await?;
            let caller = self.credentials.caller(&who).await?;
            let mut response = self.proposals.propose(&caller, txn).await?;
            self.header.fill(&mut response.header);
            return Ok(aside::answer(response));
        };
        let span = spans::of_reading_txn(&txn);
        let (mut response, facts) = self.read_txn(&who, txn, &asked).instrument(span).await?;
        self.header.fill(&mut response.header);
        let mut answer = aside::answer(response);
        self.levels.tell(&asked, facts, answer.metadata_mut());
        Ok(answer)
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
    async fn read(
        &self,
        who: &Who,
        range: RangeRequest,
        asked: &Asked,
    ) -> Result<(RangeResponse, Facts), Status> {
        let begun = Instant::now();
        let read = self.read_fresh(who, range, asked).await;
        METERS.reads.done(asked.level, read.is_ok());
        METERS.operations.requested(Operation::Range, read.is_ok(), begun.elapsed());
        read
    }

    async fn read_fresh(
        &self,
        who: &Who,
        range: RangeRequest,
        asked: &Asked,
    ) -> Result<(RangeResponse, Facts), Status> {
        let Fresh { view, staleness } = asked.view(&self.reader).await?;
        let facts = Facts { revision: view.keys().revision(), staleness };
        self.credentials.check(who, &view, |judge| judge.range(&range)).await?;
        let begun = Instant::now();
        let read = if range.range_end.is_empty() {
            view.keys().range(&range).map_err(|error| Error::from(error).into())
        } else {
            aside(move || view.keys().range(&range)).await
        };
        METERS.keys.ranges.inc();
        METERS.operations.read(read.is_ok(), begun.elapsed());
        read.map(|response| (response, facts))
    }

    async fn read_txn(
        &self,
        who: &Who,
        txn: TxnRequest,
        asked: &Asked,
    ) -> Result<(TxnResponse, Facts), Status> {
        let begun = Instant::now();
        let read = self.read_txn_fresh(who, txn, asked).await;
        METERS.reads.done(asked.level, read.is_ok());
        METERS.operations.requested(Operation::ReadonlyTxn, read.is_ok(), begun.elapsed());
        let ranges = read.as_ref().map_or(0, |(read, _)| read.responses.len() as u64);
        METERS.keys.ranges.inc_by(ranges);
        read
    }

    async fn read_txn_fresh(
        &self,
        who: &Who,
        txn: TxnRequest,
        asked: &Asked,
    ) -> Result<(TxnResponse, Facts), Status> {
        let Fresh { view, staleness } = asked.view(&self.reader).await?;
        let facts = Facts { revision: view.keys().revision(), staleness };
        self.credentials.check(who, &view, |judge| judge.txn(&txn)).await?;
        let read = if read_only::is_short(&txn) {
            view.keys().txn(&txn).map_err(|error| Error::from(error).into())
        } else {
            aside(move || view.keys().txn(&txn)).await
        };
        read.map(|response| (response, facts))
    }
}
