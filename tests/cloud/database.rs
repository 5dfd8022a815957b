//! PostgreSQL: the agent's connection to a real server, through a proxy for each line.
use std::{net::Ipv4Addr, time::Duration};

use deployctl::{
    database::connect::{ConnectError, connect},
    failure::{Failure, FailureKind},
};
use futures::future::join_all;
use tokio::{sync::Mutex, time::Instant};

use crate::{
    postgres::Postgres,
    proof::{Proof, ensure, prove, report},
    table::{ALWAYS, Dependency, Kind, Row, rows},
    tcp_proxy::{Line, TcpProxy},
};

const PATIENCE: Duration = Duration::from_secs(15);

/// As the agent sees it.
fn failure(error: ConnectError) -> Failure {
    let kind = if matches!(error, ConnectError::Silent { .. }) { FailureKind::Timeout } else { FailureKind::Step };
    Failure::new(kind, error.to_string()).because(error)
}

async fn line_of(row: &Row, postgres: &Postgres) -> TcpProxy {
    let line = match row.kind {
        Kind::Silent => Line::Silent,
        Kind::Reset => Line::Reset,
        Kind::Slow => Line::Slow(Duration::from_millis(300)),
        _ => Line::Works,
    };
    let first = vec![line; if row.times == ALWAYS { 100 } else { row.times }];
    let refused = if row.kind == Kind::Refused { Duration::from_secs(2) } else { Duration::ZERO };
    TcpProxy::start((Ipv4Addr::LOCALHOST, 0).into(), postgres.address(), first, refused).await
}

/// Connects and asks something; `user` is the role.
async fn connects(postgres: &Postgres, proxy: &TcpProxy, user: &str) -> Result<(), Failure> {
    let client = connect(&postgres.target(user, proxy.address.port()), &postgres.authorities(), PATIENCE).await.map_err(failure)?;
    let answer: i32 = client.query_one("SELECT 7", &[]).await.map_err(|e| Failure::step("asking").because(e))?.get(0);
    ensure(answer == 7, "the server answers")
}

/// A statement whose question or answer is lost; how many rows it has left.
async fn states(row: &Row, postgres: &Postgres, proxy: &TcpProxy, table: &str) -> Result<(), Failure> {
    let broken = |e: tokio_postgres::Error| Failure::step("the statement").because(e);
    let direct = postgres.client("postgres").await.map_err(failure)?;
    direct.batch_execute(&format!("CREATE TABLE {table} (text text)")).await.map_err(broken)?;
    let client = connect(&postgres.target("postgres", proxy.address.port()), &postgres.authorities(), PATIENCE).await.map_err(failure)?;
    let (line, expected) = if row.kind == Kind::LostAnswer { (Line::LosesAnswers, 1) } else { (Line::Silent, 0) };
    let text = if row.kind == Kind::LostAnswer { "'short'".to_owned() } else { format!("'{}'", "long".repeat(250_000)) };
    proxy.switch(line);
    let statement = format!("INSERT INTO {table} SELECT {text} FROM pg_sleep(0.5)");
    let (stated, ()) = tokio::join!(client.batch_execute(&statement), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        proxy.switch(Line::Reset);
    });
    let count: i64 = direct.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.map_err(broken)?.get(0);
    if count != expected {
        return ensure(false, &format!("{expected} rows are there; there are {count}"));
    }
    stated.map_err(broken)
}

async fn prove_one(row: &Row, number: usize, postgres: &Postgres) -> Proof {
    let proxy = line_of(row, postgres).await;
    let opened = |_since| proxy.opened();
    if row.call == "statement" {
        let table = format!("cell_{number}");
        return prove(row, states(row, postgres, &proxy, &table), opened).await;
    }
    if row.kind == Kind::Throttled {
        // Its only connection is taken for two seconds.
        let taken = postgres.client("limited").await.unwrap();
        let freed = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            drop(taken);
        };
        let (proof, ()) = tokio::join!(prove(row, connects(postgres, &proxy, "limited"), opened), freed);
        return proof;
    }
    prove(row, connects(postgres, &proxy, "postgres"), opened).await
}

/// A server that shuts down says so to everybody who comes, until the last one who is there has gone; then it is started again.
async fn restarted(row: &Row) -> Proof {
    let postgres = Mutex::new(Postgres::start().await);
    let (held, proxy, target, authorities) = {
        let postgres = postgres.lock().await;
        let held = postgres.client("postgres").await.unwrap();
        let proxy = line_of(row, &postgres).await;
        postgres.signal(rustix::process::Signal::TERM);
        let target = postgres.target("postgres", proxy.address.port());
        (held, proxy, target, postgres.authorities())
    };
    // Until it has heard.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let connecting = async { connect(&target, &authorities, PATIENCE).await.map(drop).map_err(failure) };
    let restarting = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        drop(held);
        let mut postgres = postgres.lock().await;
        postgres.wait();
        postgres.run().await;
    };
    let (proof, ()) = tokio::join!(prove(row, connecting, |_since| proxy.opened()), restarting);
    proof
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn database() {
    let postgres = Postgres::start().await;
    let direct = postgres.client("postgres").await.unwrap();
    direct.batch_execute(&format!("CREATE ROLE limited LOGIN CONNECTION LIMIT 1 PASSWORD '{}'", crate::postgres::PASSWORD)).await.unwrap();
    let rows = rows(Dependency::Database);
    let ordinary = rows.iter().enumerate().filter(|(_, row)| row.kind != Kind::ServerError);
    let ordinary = join_all(ordinary.map(|(number, row)| prove_one(row, number, &postgres)));
    let restarts = join_all(rows.iter().filter(|row| row.kind == Kind::ServerError).map(restarted));
    let (mut proofs, restarts) = tokio::join!(ordinary, restarts);
    proofs.extend(restarts);
    report(&proofs);

    // What is refused is refused at once: another attempt would find the same.
    let proxy = TcpProxy::start((Ipv4Addr::LOCALHOST, 0).into(), postgres.address(), Vec::new(), Duration::ZERO).await;
    let mut wrong = postgres.target("postgres", proxy.address.port());
    wrong.password = "another".to_owned().into();
    let began = Instant::now();
    assert!(connect(&wrong, &postgres.authorities(), PATIENCE).await.is_err(), "a wrong password");
    let right = postgres.target("postgres", proxy.address.port());
    assert!(connect(&right, &postgres.stranger(), PATIENCE).await.is_err(), "a server that somebody else vouches for");
    assert!(began.elapsed() < Duration::from_secs(5) && proxy.opened().len() == 2, "{:?}, {:?}", began.elapsed(), proxy.opened().len());
}
