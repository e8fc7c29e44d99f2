//! Connections: to one server, to the master that sentinels name, to a cluster. The crate's own retries, timeouts and
//! reconnections are switched off where they can be: how long something may take is decided by whoever asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, ConnectionInfo, FromRedisValue, IntoConnectionInfo as _, ProtocolVersion,
    PushInfo, RedisConnectionInfo, RedisResult, TlsCertificates, cmd,
};

use crate::config::{RedisUrl, ServerAddress, Servers};
use crate::counter::Unavailable;
use crate::outbound::Authorities;

/// Why the counters cannot be used at all: the authorities that the config names. Says what is wrong, and where.
#[derive(Clone, Debug, thiserror::Error)]
#[error("[counters]: {0}")]
pub struct OpenError(String);

/// A connection that carries the calls of many tasks at once. A clone is cheap; the connection ends with the last one.
#[derive(Clone)]
pub enum Link {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Hears what a connection says by itself: that it is lost, and messages.
pub type Ear = Arc<dyn Fn(PushInfo) + Send + Sync>;

/// Knows how to connect.
pub struct Dialer {
    url: RedisUrl,
    tls: Option<TlsCertificates>,
    /// The sentinel that is asked first, each time the next one: what one says may be old.
    first: usize,
}

impl Link {
    pub async fn query<T: FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Self::Single(connection) => command.query_async(connection).await,
            Self::Cluster(connection) => command.query_async(connection).await,
        }
    }

    pub async fn subscribe(&mut self, channel: &str) -> RedisResult<()> {
        match self {
            Self::Single(connection) => connection.subscribe(channel).await,
            Self::Cluster(connection) => connection.subscribe(channel).await,
        }
    }

    /// How many keys a probe writes: in a cluster enough to meet every master of a small one.
    pub fn probes(&self) -> usize {
        match self {
            Self::Single(_) => 1,
            Self::Cluster(_) => 16,
        }
    }
}

impl Dialer {
    /// # Errors
    /// When `ca_file` holds no certificates.
    pub fn new(url: &RedisUrl, ca_file: Option<&Path>) -> Result<Self, OpenError> {
        let authorities = ca_file.map(Authorities::read).transpose().map_err(OpenError)?;
        let tls = TlsCertificates { client_tls: None, root_cert: authorities.map(Authorities::into_pem) };
        Ok(Self { url: url.clone(), tls: url.is_tls.then_some(tls), first: 0 })
    }

    /// Where it connects to, without credentials.
    pub fn place(&self) -> String {
        self.url.to_string()
    }

    /// Connects anew: asks the sentinels again, or reads the slots of the cluster again.
    pub async fn dial(&mut self, ear: Ear) -> Result<Link, Unavailable> {
        match self.url.servers.clone() {
            Servers::Single(server) => self.connect(&server, ear).await,
            Servers::Sentinel { sentinels, master } => {
                let server = self.ask_for_master(&sentinels, &master).await?;
                self.connect(&server, ear).await
            }
            Servers::Cluster(nodes) => self.join(&nodes, ear).await,
        }
    }

    async fn connect(&self, server: &ServerAddress, ear: Ear) -> Result<Link, Unavailable> {
        let settings = self.credentials().set_protocol(ProtocolVersion::RESP3).set_db(i64::from(self.url.database));
        let config = config().set_push_sender(deliver(ear));
        Ok(Link::Single(self.client(server, settings)?.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// Asks one sentinel after the other, until one answers.
    async fn ask_for_master(&mut self, sentinels: &[ServerAddress], master: &str) -> Result<ServerAddress, Unavailable> {
        let mut failure = Unavailable::Lost { detail: "there is no sentinel to ask".to_owned() };
        self.first = self.first.saturating_add(1) % sentinels.len().max(1);
        for sentinel in sentinels.iter().cycle().skip(self.first).take(sentinels.len()) {
            match self.ask(sentinel, master).await {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => failure = Unavailable::Lost { detail: format!("the sentinel {sentinel} knows no master {master}") },
                Err(why) => failure = Unavailable::Lost { detail: format!("the sentinel {sentinel}: {why}") },
            }
        }
        Err(failure)
    }

    /// The credentials are the master's; a sentinel that wants some is given the same.
    async fn ask(&self, sentinel: &ServerAddress, master: &str) -> Result<Option<ServerAddress>, Unavailable> {
        let stranger = RedisConnectionInfo::default().set_skip_set_lib_name();
        match self.ask_as(sentinel, master, stranger).await {
            Err(Unavailable::Refused { code }) if code == "NOAUTH" && self.url.password.is_some() => {
                self.ask_as(sentinel, master, self.credentials()).await
            }
            outcome => outcome,
        }
    }

    async fn ask_as(
        &self,
        sentinel: &ServerAddress,
        master: &str,
        settings: RedisConnectionInfo,
    ) -> Result<Option<ServerAddress>, Unavailable> {
        let config = config().set_response_timeout(Some(CONNECT));
        let mut connection = self.client(sentinel, settings)?.get_multiplexed_async_connection_with_config(&config).await?;
        let mut question = cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        let address: Option<(String, u16)> = question.query_async(&mut connection).await?;
        Ok(address.map(|(host, port)| ServerAddress { host, port }))
    }

    async fn join(&self, nodes: &[ServerAddress], ear: Ear) -> Result<Link, Unavailable> {
        let settings = self.credentials().set_protocol(ProtocolVersion::RESP3);
        let infos = nodes.iter().map(|node| self.info(node, settings.clone())).collect::<RedisResult<Vec<_>>>()?;
        // One retry: for the node that a slot has moved to.
        let mut cluster = ClusterClientBuilder::new(infos)
            .use_protocol(ProtocolVersion::RESP3)
            .retries(1)
            .connection_timeout(CONNECT)
            .response_timeout(CONNECT)
            .tcp_settings(TcpSettings::default().set_nodelay(true))
            .push_sender(deliver(ear));
        if let Some(tls) = &self.tls {
            cluster = cluster.certs(tls.clone());
        }
        let cluster: ClusterClient = cluster.build()?;
        let joining = tokio::time::timeout(JOIN, cluster.get_async_connection());
        Ok(Link::Cluster(joining.await.map_err(|_| Unavailable::TimedOut)??))
    }

    fn client(&self, server: &ServerAddress, settings: RedisConnectionInfo) -> RedisResult<Client> {
        let info = self.info(server, settings)?;
        match &self.tls {
            Some(tls) => Client::build_with_tls(info, tls.clone()),
            None => Client::open(info),
        }
    }

    fn info(&self, server: &ServerAddress, settings: RedisConnectionInfo) -> RedisResult<ConnectionInfo> {
        let ServerAddress { host, port } = server.clone();
        let address = match &self.tls {
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            None => ConnectionAddr::Tcp(host, port),
        };
        let info = address.into_connection_info()?;
        Ok(info.set_redis_settings(settings).set_tcp_settings(TcpSettings::default().set_nodelay(true)))
    }

    fn credentials(&self) -> RedisConnectionInfo {
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(username) = &self.url.username {
            settings = settings.set_username(username);
        }
        if let Some(password) = &self.url.password {
            settings = settings.set_password(password.expose());
        }
        settings
    }
}

fn config() -> AsyncConnectionConfig {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(None);
    config.set_pipeline_buffer_size(CALLS)
}

fn deliver(ear: Ear) -> impl Fn(PushInfo) -> Result<(), std::convert::Infallible> + Send + Sync + 'static {
    move |info| {
        ear(info);
        Ok(())
    }
}

/// From the look-up of a name to the end of the greeting.
const CONNECT: Duration = Duration::from_millis(500);
/// To some node of a cluster, and then to those that it names; a silent one costs each step its whole time.
const JOIN: Duration = CONNECT.saturating_mul(4);
/// Calls that may wait to be sent; one more waits for its place.
const CALLS: usize = 4096;
