//! CoreDNS: the cluster's names, and the names that AWS' DNS would know, from files.
use std::{fs, io, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use super::{Inner, PART};
use crate::{claim::write_private, layout::Layout, process::Ready};

/// Starts CoreDNS on the node's address.
pub async fn start(kubernetes: &Inner) -> Result<()> {
    let layout = &kubernetes.layout;
    write_hosts(layout)?;
    let corefile = layout.file("dns/Corefile");
    // Whatever neither plugin knows is refused: nothing is forwarded anywhere.
    let text = format!(
        ".:53 {{\n  bind {address}\n  errors\n  ready 127.0.0.1:8181\n  hosts {hosts} {{\n    ttl 1\n    reload 1s\n    fallthrough\n  }}\n  kubernetes cluster.local {{\n    kubeconfig {kubeconfig}\n    ttl 1\n  }}\n}}\n",
        address = layout.node_address(),
        hosts = layout.shared("dns/hosts").display(),
        kubeconfig = kubernetes.pki.kubeconfig("coredns").display(),
    );
    write_private(&corefile, text.as_bytes())?;
    let ready = kubernetes.on_loopback(Ready::Http { url: "http://127.0.0.1:8181/ready".into() });
    let mut spec = kubernetes.part("coredns", kubernetes.program("coredns"), ready).args(["-conf".into(), corefile.into_os_string()]);
    spec.deadline = PART;
    kubernetes.supervisor.start(spec).await
}

/// Joins what the writers put into dns/records.d, as long as the daemon runs.
pub async fn join_records(layout: Layout) {
    loop {
        if let Err(error) = write_hosts(&layout) {
            tracing::error!(error = format!("{error:#}"), "the names for the cluster's DNS could not be joined");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Writes dns/hosts if it is not what the records say.
fn write_hosts(layout: &Layout) -> Result<()> {
    let text = joined(&layout.shared("dns/records.d"))?;
    let hosts = layout.shared("dns/hosts");
    if fs::read_to_string(&hosts).is_ok_and(|now| now == text) {
        return Ok(());
    }
    write_private(&hosts, text.as_bytes())
}

fn joined(folder: &Path) -> Result<String> {
    fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    let mut files: Vec<_> = fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>()?;
    files.sort();
    let mut text = String::new();
    // Writers replace their file under another name first; names with a dot in front are such halves.
    for file in files.iter().filter(|f| f.file_name().is_some_and(|n| !n.as_encoded_bytes().starts_with(b"."))) {
        match fs::read_to_string(file) {
            Ok(lines) => text.extend(lines.lines().flat_map(|line| [line, "\n"])),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("reading {}", file.display())),
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_joined_by_name_without_halves() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("b"), "198.18.0.2 kafka").unwrap();
        fs::write(folder.path().join("a"), "198.18.0.200 db\n").unwrap();
        fs::write(folder.path().join(".tmp"), "half").unwrap();
        assert_eq!(joined(folder.path()).unwrap(), "198.18.0.200 db\n198.18.0.2 kafka\n");
    }
}
