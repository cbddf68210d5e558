//! Test harness: the real programs on free ports, S3 servers, a scripted agent, a proxy before the bucket; and `sim`,
//! the programs' own loops in a simulated world.
//!
//! Deliberately absent, but in `sim`: any knowledge of the programs' insides. The fixtures start them as a site or an
//! operator does, speak REST, the wire and S3 to them, and panic when something is wrong: only tests use them.

pub mod agent;
pub mod binaries;
pub mod book;
pub mod cli;
pub mod contract;
pub mod fuzz;
pub mod jwt;
pub mod key_service;
pub mod operator;
mod program;
pub mod proxy;
pub mod s3;
pub mod scene;
pub mod schemathesis;
pub mod scripted;
pub mod server;
pub mod sim;
pub mod site;
pub mod stage;
pub mod storage;
pub mod thin_link;
pub mod wait;
pub mod watch;

pub use agent::AgentProcess;
pub use key_service::KeyService;
pub use operator::{Operator, Reply, http};
pub use proxy::{Proxy, Wire};
pub use scene::Scene;
pub use scripted::ScriptedAgent;
pub use server::ServerProcess;
pub use site::Site;
pub use stage::Stage;
pub use thin_link::ThinLink;
pub use wait::{WITHIN, eventually};
