//! A guest in WebAssembly text asks through the import, as a filter would.

use std::sync::Arc;

use vaultref_contract::wire::{FailureKind, Outcome, ReplyError, decode_reply};
use wasmtime::{Engine, Instance, Linker, Module, Store};

use super::{ForeignFunction, add_to_linker};
use crate::config;
use crate::environment::Environment;
use crate::policy::Access;
use crate::resolver::Resolver;

/// Calls the function whose name and arguments lie at 1024 and 2048; says the status. The reply is
/// put at 65536, where the guest's allocator always points.
const GUEST: &str = r#"
    (module
      (import "env" "proxy_call_foreign_function"
        (func $call (param i32 i32 i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 4)
      (func (export "ALLOCATE") (param i32) (result i32) (i32.const 65536))
      (func (export "ask") (param $name i32) (param $arguments i32) (result i32)
        (call $call (i32.const 1024) (local.get $name)
                    (i32.const 2048) (local.get $arguments)
                    (i32.const 16) (i32.const 20))))
"#;

struct Guest {
    store: Store<ForeignFunction>,
    instance: Instance,
}

impl Guest {
    fn start(secrets: ForeignFunction, allocator: &str) -> Self {
        let engine = Engine::default();
        let module = Module::new(&engine, GUEST.replace("ALLOCATE", allocator)).expect("the guest");
        let mut linker = Linker::new(&engine);
        add_to_linker(&mut linker, |secrets| secrets).expect("a new import");
        let mut store = Store::new(&engine, secrets);
        let instance = linker
            .instantiate(&mut store, &module)
            .expect("an instance");
        Self { store, instance }
    }

    fn ask_sized(&mut self, name: &str, arguments: &str, size: usize) -> (i32, Vec<u8>) {
        let memory = self
            .instance
            .get_memory(&mut self.store, "memory")
            .expect("memory");
        memory
            .write(&mut self.store, 1024, name.as_bytes())
            .expect("room");
        memory
            .write(&mut self.store, 2048, arguments.as_bytes())
            .expect("room");
        memory.write(&mut self.store, 16, &[0; 8]).expect("room");
        let ask = self
            .instance
            .get_typed_func::<(u32, u32), i32>(&mut self.store, "ask")
            .expect("the export");
        let sizes = (
            u32::try_from(name.len()).expect("small"),
            u32::try_from(size).expect("small"),
        );
        let status = ask.call(&mut self.store, sizes).expect("no trap");
        let word = |at: usize| {
            let bytes = memory.data(&self.store)[at..at + 4]
                .try_into()
                .expect("four");
            usize::try_from(u32::from_le_bytes(bytes)).expect("small")
        };
        let (at, length) = (word(16), word(20));
        (status, memory.data(&self.store)[at..at + length].to_vec())
    }

    fn ask(&mut self, name: &str, arguments: &str) -> (i32, Vec<u8>) {
        self.ask_sized(name, arguments, arguments.len())
    }
}

fn secrets() -> ForeignFunction {
    let environment = Arc::new(Environment::from([("TEST", "hunter2")]));
    let config = config::without_file(&environment).expect("a configuration");
    let resolver = Resolver::new(config.vaults, 7, tokio::runtime::Handle::current());
    ForeignFunction::new(resolver, Access::All)
}

const REQUEST: &str = r#"{"references":["{vault://env/test}"]}"#;

#[tokio::test]
async fn what_is_not_in_memory_is_pending_then_there() {
    for allocator in ["proxy_on_memory_allocate", "malloc"] {
        let secrets = secrets();
        let mut reads = secrets.finished_reads();
        let mut guest = Guest::start(secrets, allocator);
        let (status, reply) = guest.ask("vaultref.resolve", REQUEST);
        assert_eq!(status, 0);
        let outcomes = decode_reply(&reply, 1).expect("a reply");
        let Outcome::Failure(failure) = &outcomes[0] else {
            panic!("read before it could be: {outcomes:?}")
        };
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::Pending, true)
        );
        reads.changed().await.expect("the resolver lives");
        let (status, reply) = guest.ask("vaultref.resolve", REQUEST);
        assert_eq!(status, 0);
        let outcomes = decode_reply(&reply, 1).expect("a reply");
        let Outcome::Secret(secret) = &outcomes[0] else {
            panic!("not there: {outcomes:?}")
        };
        assert!(secret.value.secret().same_as(b"hunter2"));
        assert!(!secret.lifetime.stale);
        let known = format!(
            r#"{{"references":["{{vault://env/test}}"],"known":["{}"]}}"#,
            secret.revision.0
        );
        let (_, reply) = guest.ask("vaultref.resolve", &known);
        let outcomes = decode_reply(&reply, 1).expect("a reply");
        assert!(matches!(outcomes[0], Outcome::Unchanged(_)), "{outcomes:?}");
    }
}

#[tokio::test]
async fn another_name_is_not_found() {
    let mut guest = Guest::start(secrets(), "malloc");
    for name in ["vaultref.resolv", "vaultref.resolve2", "", "compress"] {
        assert_eq!(guest.ask(name, REQUEST), (1, Vec::new()), "{name}");
    }
}

#[tokio::test]
async fn garbage_is_refused_and_memory_that_is_not_there_is_a_status() {
    let mut guest = Guest::start(secrets(), "malloc");
    let (status, reply) = guest.ask("vaultref.resolve", "garbage");
    assert_eq!(status, 0);
    let error = decode_reply(&reply, 1).map(|_| ()).expect_err("a refusal");
    assert!(matches!(error, ReplyError::Refused(_)), "{error}");
    for size in [usize::try_from(u32::MAX).expect("64 bits"), 4 * 65536] {
        assert_eq!(
            guest.ask_sized("vaultref.resolve", "", size),
            (6, Vec::new())
        );
    }
}

#[tokio::test]
async fn a_guest_without_an_allocator_gets_a_status() {
    let mut guest = Guest::start(secrets(), "none");
    assert_eq!(guest.ask("vaultref.resolve", REQUEST), (10, Vec::new()));
}
