//! The sandbox's parts: what stands behind the AWS endpoint, and the stand-ins that run in or beside the cluster.
pub mod door;
pub mod eks;
pub mod iam;
pub mod layout;
pub mod standins;
