//! Apply, diff, prune and wait against a real API server (etcd and kube-apiserver on loopback, no node).
mod api_server;
mod objects;
mod templates;
