//! PostgreSQL from inside the cluster: connections and migrations.
pub mod audit;
pub mod compare;
pub mod connect;
pub mod dry_run;
pub mod history;
pub mod in_place;
pub mod lint;
pub mod lock;
pub mod migrate;
pub mod migration;
pub mod resume;
pub mod retention;
pub mod scripts;
pub mod statement;
mod table_sum;
pub mod undo;
pub mod version;
