//! Handles: whose they are, how many there may be, and what is left when they go.

use anyhow::{Context, Result};
use wasmtime::Store;
use wasmtime::component::Val;

use crate::bed::{
    Bed, Grant, Guest, State, TOKEN, VALUE, call, component, engine, handle, linker, ours,
};

#[test]
fn a_handle_that_the_guest_does_not_hold_ends_it() -> Result<()> {
    let bed = Bed::new()?;
    for number in [0, 1, 2, 3, 7, 1 << 20, u32::MAX] {
        let mut guest = bed.reader()?;
        let own = guest.handle(TOKEN)?;
        if number != own {
            assert!(guest.reveal(number).is_err(), "{number}");
        }
        for export in ["revision", "lifetime-of", "lend"] {
            let mut guest = bed.holder()?;
            let own = guest.handle(TOKEN)?;
            if number != own {
                assert!(
                    guest.call(export, &[Val::U32(number)]).is_err(),
                    "{export} {number}"
                );
                assert_eq!(guest.store.data().lent.len(), 0);
            }
        }
    }
    Ok(())
}

/// Two guests in one store, and one in another: each has handles of its own, with the same numbers.
#[test]
fn a_handle_of_one_instance_is_not_one_of_another() -> Result<()> {
    let bed = Bed::new()?;
    bed.write("other", "of another")?;
    let state = State {
        secrets: bed.secrets(),
        lent: Vec::new(),
        given: Vec::new(),
    };
    let mut store = Store::new(engine(), state);
    let (linker, component) = (linker(Grant::Reveal)?, component("component-reader")?);
    let first = linker.instantiate(&mut store, &component).map_err(ours)?;
    let second = linker.instantiate(&mut store, &component).map_err(ours)?;
    let token = [Val::String(TOKEN.to_owned())];
    let other = [Val::String("{vault://files/other}".to_owned())];
    let of_first = handle(call(&mut store, &first, "get", &token)?)?
        .ok()
        .context("a handle")?;
    let of_second = handle(call(&mut store, &second, "get", &other)?)?
        .ok()
        .context("a handle")?;
    assert_eq!(of_first, of_second, "the numbers are the guests' own");
    let revealed = call(&mut store, &second, "reveal", &[Val::U32(of_first)])?;
    assert!(
        format!("{revealed:?}").contains("of another"),
        "{revealed:?}"
    );
    let third = linker.instantiate(&mut store, &component).map_err(ours)?;
    assert!(call(&mut store, &third, "reveal", &[Val::U32(of_first)]).is_err());

    let mut elsewhere = bed.reader()?;
    assert!(elsewhere.reveal(of_first).is_err());
    Ok(())
}

/// An embedder that confuses its stores gets an error, and not another guest's secret.
#[test]
fn a_store_takes_no_secret_of_another() -> Result<()> {
    let bed = Bed::new()?;
    bed.write("other", "of another")?;
    let (mut one, mut two) = (bed.holder()?, bed.holder()?);
    for guest in [&mut one, &mut two] {
        let handle = guest.handle(TOKEN)?;
        guest.give(handle)?;
    }
    let first = one.store.data_mut().given.pop().context("a secret")?;
    let secrets = &mut two.store.data_mut().secrets;
    assert!(secrets.lend(&first).is_err());
    assert!(secrets.revision(&first).is_err());
    assert!(secrets.lifetime(&first).is_err());
    secrets.release(&first);
    assert_eq!(two.store.data().secrets.held(), 1, "not what was meant");
    let secrets = &mut one.store.data_mut().secrets;
    assert!(secrets.lend(&first)?.same_as(VALUE.as_bytes()));
    secrets.release(&first);
    assert!(secrets.lend(&first).is_err());
    Ok(())
}

#[test]
fn what_a_guest_drops_is_gone() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = bed.reader()?;
    let handles = [guest.handle(TOKEN)?, guest.handle(TOKEN)?];
    assert_eq!(guest.store.data().secrets.held(), 2);
    guest.release(handles[0])?;
    assert_eq!(guest.store.data().secrets.held(), 1);
    assert_eq!(guest.reveal(handles[1])?, Ok(VALUE.as_bytes().to_vec()));
    guest.release(handles[1])?;
    assert_eq!(guest.store.data().secrets.held(), 0);
    assert!(guest.reveal(handles[1]).is_err());
    Ok(())
}

#[test]
fn a_guest_that_never_drops_is_refused() -> Result<()> {
    let bed = Bed::new()?;
    let mut guest = Guest::new(bed.secrets().at_most(3), "component-reader", Grant::Reveal)?;
    let handles = (0..3)
        .map(|_| guest.handle(TOKEN))
        .collect::<Result<Vec<_>>>()?;
    assert_eq!(guest.get(TOKEN)?, Err("too-many".to_owned()));
    assert_eq!(guest.store.data().secrets.held(), 3);
    assert_eq!(guest.reveal(handles[2])?, Ok(VALUE.as_bytes().to_vec()));
    guest.release(handles[0])?;
    guest.handle(TOKEN)?;
    assert_eq!(guest.get(TOKEN)?, Err("too-many".to_owned()));

    let mut guest = bed.holder()?;
    for _ in 0..1024 {
        guest.handle(TOKEN)?;
    }
    assert_eq!(guest.get(TOKEN)?, Err("too-many".to_owned()));
    Ok(())
}
