//! Writes postgresql.conf, pg_hba.conf and the server's certificate before every start.
use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use anyhow::Result;

use super::{
    super::{certificates::ServerIdentity, model::Instance, records::write_whole},
    place::Place,
    session::{SYSTEM_USER, socket_folder},
};

/// What recovery reads.
#[derive(Clone, Debug)]
pub struct ArchiveSource {
    /// The archive's folder.
    pub wal: std::path::PathBuf,
    /// Where to stop; `None` is the archive's end.
    pub until: Option<jiff::Timestamp>,
}

/// Writes everything that the server reads at its start.
pub fn write(
    place: &Place,
    instance: &Instance,
    parameters: &BTreeMap<String, String>,
    identity: &ServerIdentity,
    archive: Option<&ArchiveSource>,
) -> Result<()> {
    let data = place.data(&instance.region, &instance.resource);
    let wal = place.wal(&instance.region, &instance.resource);
    place.own_folder(&wal)?;
    let mut settings = settings(place, instance, parameters, &wal)?;
    if let Some(archive) = archive {
        let from = place.inside(&archive.wal)?;
        settings.push_str(&format!("restore_command = 'cp {}/%f \"%p\"'\nrecovery_target_action = 'promote'\n", from.display()));
        if let Some(until) = archive.until {
            // PostgreSQL knows no `Z` while it reads its configuration; `+00` it does.
            let until = until.strftime("%Y-%m-%d %H:%M:%S%.6f+00");
            settings.push_str(&format!("recovery_target_time = '{until}'\n"));
        }
        own(place, &data.join("recovery.signal"), "", 0o600)?;
    }
    own(place, &data.join("postgresql.conf"), &settings, 0o600)?;
    // Whatever ALTER SYSTEM or a copied folder left must not win over the parameter group.
    own(place, &data.join("postgresql.auto.conf"), "", 0o600)?;
    own(place, &data.join("pg_hba.conf"), &access(parameters), 0o600)?;
    own(place, &data.join("pg_ident.conf"), &format!("sandbox root {SYSTEM_USER}\nsandbox postgres {SYSTEM_USER}\n"), 0o600)?;
    own(place, &data.join("server.crt"), &identity.certificate, 0o600)?;
    own(place, &data.join("server.key"), &identity.key, 0o600)
}

fn own(place: &Place, path: &Path, text: &str, mode: u32) -> Result<()> {
    write_whole(path, text.as_bytes())?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    place.give(path)
}

fn settings(place: &Place, instance: &Instance, parameters: &BTreeMap<String, String>, wal: &Path) -> Result<String> {
    let wal = place.inside(wal)?;
    let wal = wal.display();
    let wal_level = if parameters.get("rds.logical_replication").is_some_and(|value| is_on(value)) { "logical" } else { "replica" };
    // A segment that was forced out early is mostly zeros: --sparse keeps them off the disk. The rename makes a half copy invisible.
    let archive = format!("test -f {wal}/%f || (cp --sparse=always \"%p\" {wal}/%f.part && mv {wal}/%f.part {wal}/%f)");
    let mut text = format!(
        "listen_addresses = '{address}'\nport = {port}\nunix_socket_directories = '{socket}'\ncluster_name = '{resource}'\n\
         ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\nssl_min_protocol_version = 'TLSv1.2'\n\
         wal_level = {wal_level}\narchive_mode = on\narchive_command = '{archive}'\nhot_standby = off\n\
         shared_buffers = 32MB\nmax_connections = 100\nshared_preload_libraries = 'pg_stat_statements'\n\
         timezone = 'UTC'\nlog_timezone = 'UTC'\nlog_line_prefix = '%t:%r:%u@%d:[%p]:'\n",
        address = instance.address,
        port = instance.port,
        socket = socket_folder(&instance.resource),
        resource = instance.resource,
    );
    for (name, value) in parameters.iter().filter(|(name, _)| !decided_here(name)) {
        text.push_str(&format!("{name} = '{}'\n", value.replace('\'', "''")));
    }
    Ok(text)
}

/// RDS manages these itself, whatever a group says.
fn decided_here(name: &str) -> bool {
    name.starts_with("rds.")
        || matches!(name, "listen_addresses" | "port" | "unix_socket_directories" | "archive_mode" | "archive_command" | "hot_standby")
}

/// Whether a parameter's value means yes.
pub fn is_on(value: &str) -> bool {
    matches!(value, "1" | "on" | "true" | "yes")
}

/// RDS 15 and later force TLS unless the group says otherwise; the system user comes over the local socket only.
fn access(parameters: &BTreeMap<String, String>) -> String {
    let forced = parameters.get("rds.force_ssl").is_none_or(|value| is_on(value));
    let kind = if forced { "hostssl" } else { "host" };
    format!("local all {SYSTEM_USER} peer map=sandbox\nhost all {SYSTEM_USER} all reject\n{kind} all all all scram-sha-256\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_forced_unless_the_group_says_otherwise() {
        assert!(access(&BTreeMap::new()).contains("\nhostssl all all"));
        let open = BTreeMap::from([("rds.force_ssl".to_owned(), "0".to_owned())]);
        assert!(access(&open).contains("\nhost all all"));
    }
}
