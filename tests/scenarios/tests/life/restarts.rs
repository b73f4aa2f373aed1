//! Who is killed comes back, under load: the daemon, and the vault.

use std::time::Duration;

use anyhow::Result;
use vaultref_scenarios::openbao::{KV2_MOUNT, Lasting, OpenBao};

use crate::bed::{Bed, Lost, put};

#[test]
fn a_daemon_that_is_killed_and_started_under_load_loses_no_request() -> Result<()> {
    let bao = OpenBao::start()?;
    put(&bao, 0)?;
    let reader = bao.create_reader("edge", &["secret/data"])?;
    let mut bed = Bed::start(bao.vault_config(KV2_MOUNT, "v2", &reader), |plan| plan)?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    let mut slowest = Duration::ZERO;
    for number in 1..4 {
        bed.world.daemon().kill();
        bed.put(&bao)?;
        bed.until_sent(number - 1)?;
        bed.over();
        bed.world.daemon().start()?;
        slowest = slowest.max(bed.until_fresh()?);
    }
    lost.none_of(load, "the daemon was killed three times", &bed)?;
    let log = "the filter's: the resolver cannot be asked, and then answers again";
    lost.show(
        "the daemon is killed (-9) and started, three times",
        "the old value, from the filter's memory",
        log,
        Some(slowest),
    );
    bed.only_values()
}

/// It keeps its data on disk, and unseals itself when it is started again.
#[test]
fn a_vault_that_is_killed_and_started_under_load_loses_no_request() -> Result<()> {
    let mut vault = Lasting::start()?;
    put(vault.bao(), 0)?;
    let reader = vault.bao().create_reader("edge", &["secret/data"])?;
    let config = vault.bao().vault_config(KV2_MOUNT, "v2", &reader);
    let mut bed = Bed::start(config, |plan| plan)?;
    let mut lost = Lost::default();
    let load = bed.load()?;
    bed.until_sent(0)?;
    let mut slowest = Duration::ZERO;
    let mut says = String::new();
    for number in 0..2 {
        let failures = bed.failures();
        vault.kill();
        bed.only_stale(number, failures)?;
        says = bed.says();
        vault.start_again()?;
        bed.over();
        bed.put(vault.bao())?;
        slowest = slowest.max(bed.until_fresh()?);
    }
    lost.none_of(load, "the vault was killed twice", &bed)?;
    lost.show(
        "OpenBao is killed (-9): refused, and started again, twice",
        "the old value",
        &says,
        Some(slowest),
    );
    bed.only_values()
}
