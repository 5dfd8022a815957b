//! PostgreSQL from inside the cluster: connections and migrations.
pub mod audit;
pub mod connect;
pub mod history;
pub mod migrate;
pub mod migration;
mod table_sum;
