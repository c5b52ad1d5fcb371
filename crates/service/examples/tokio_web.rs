//! A web server on tokio. The stop token is awaited, the end has phases: no new connections, then what is in flight, then the
//! store; a phase that hangs is named, and does not keep the others from running.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::mpsc::Sender;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use keepwell_service::{Accept, Failure, Service, Shutdown, Starting};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};

pub(crate) struct Web {
    pub(crate) address: SocketAddr,
    /// Who wants to know the port that was given for port 0.
    pub(crate) bound: Option<Sender<SocketAddr>>,
}

impl Service for Web {
    fn run(self, starting: Starting) -> Result<(), Failure> {
        // The runtime is made here and not in `main`, which has to come to the manager first.
        Builder::new_current_thread().enable_all().build()?.block_on(self.serve(starting))
    }
}

impl Web {
    async fn serve(self, starting: Starting) -> Result<(), Failure> {
        // `sc start web 0.0.0.0:80`
        let address = match starting.arguments().first() {
            Some(text) => text.to_string_lossy().parse()?,
            None => self.address,
        };
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let running = starting.running(Accept::STOP_AND_SHUTDOWN);
        println!("listening on http://{address}");
        if let Some(bound) = self.bound {
            bound.send(address)?;
        }

        let stop = running.stop_token();
        let app = Router::new().route("/", get(|| async { "well\n" })).route("/slow", get(slow));
        let server = axum::serve(listener, app).with_graceful_shutdown(async move {
            stop.await;
        });
        let server = tokio::spawn(server.into_future());

        let shutdown = Shutdown::new();
        let tokio = Handle::current();
        shutdown.phase("requests in flight", 10, Duration::from_secs(20), move |_| {
            // Each phase has a thread of its own, on which it may block.
            tokio.block_on(server)??;
            Ok(())
        });
        shutdown.phase("store", 20, Duration::from_secs(5), |_| {
            println!("the store is closed");
            Ok(())
        });

        running.stop_token().await;
        let stopping = running.stopping();
        // The runtime goes on meanwhile, since the phases wait for its tasks.
        tokio::task::spawn_blocking(move || stopping.run(&shutdown)).await?.check()
    }
}

async fn slow() -> &'static str {
    tokio::time::sleep(Duration::from_millis(300)).await;
    "slow and well\n"
}

fn main() -> ExitCode {
    let address = SocketAddr::from(([127, 0, 0, 1], 8080));
    keepwell_service::run("tokio_web", Web { address, bound: None })
}
