//! The Regions service. Its answers have no revision: they are not about the key space.

use tonic::{Request, Response, Status, async_trait};

use crate::{
    grpc::header::Header,
    node::{self, Node},
    proto::region::{
        Account, RegionsChangeResponse, RegionsConfigureRequest, RegionsFailoverRequest,
        RegionsOfflineRequest, RegionsOnlineRequest, RegionsSetPrioritiesRequest,
        RegionsShowRequest, RegionsShowResponse,
        regions_server::{self, RegionsServer},
    },
};

pub(crate) struct Regions {
    regions: node::Regions,
    header: Header,
}

/// The service over the handles of a node; requests have at most this many bytes.
pub(crate) fn service(node: &Node, header: &Header, largest: usize) -> RegionsServer<Regions> {
    let regions = Regions { regions: node.regions.clone(), header: header.clone() };
    RegionsServer::new(regions).max_decoding_message_size(largest)
}

type Changed = Result<Response<RegionsChangeResponse>, Status>;

#[async_trait]
impl regions_server::Regions for Regions {
    async fn show(
        &self,
        _: Request<RegionsShowRequest>,
    ) -> Result<Response<RegionsShowResponse>, Status> {
        let shown = self.regions.show().await?;
        Ok(Response::new(RegionsShowResponse { header: self.header.without_revision(), ..shown }))
    }

    async fn set_priorities(&self, request: Request<RegionsSetPrioritiesRequest>) -> Changed {
        self.changed(self.regions.set_priorities(&request.into_inner()).await)
    }

    async fn failover(&self, request: Request<RegionsFailoverRequest>) -> Changed {
        self.changed(self.regions.failover(&request.into_inner()).await)
    }

    async fn offline(&self, request: Request<RegionsOfflineRequest>) -> Changed {
        self.changed(self.regions.offline(&request.into_inner()).await)
    }

    async fn online(&self, request: Request<RegionsOnlineRequest>) -> Changed {
        self.changed(self.regions.online(&request.into_inner()).await)
    }

    async fn configure(&self, request: Request<RegionsConfigureRequest>) -> Changed {
        self.changed(self.regions.configure(&request.into_inner()).await)
    }
}

impl Regions {
    fn changed(&self, account: Result<Account, node::Error>) -> Changed {
        let account = Some(account?);
        let header = self.header.without_revision();
        Ok(Response::new(RegionsChangeResponse { header, account }))
    }
}
