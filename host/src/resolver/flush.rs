//! Values that are to be read anew although their ttl is not over: on a person's word, or because an
//! upstream refused what was sent.

use super::ask::Ask;
use super::{Resolver, flight};
use crate::policy::Access;

/// What is to be read anew.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Flush {
    /// Everything.
    All,
    /// The object that this reference reads.
    Reference(String),
    /// All of the vault of this name.
    Vault(String),
}

impl Resolver {
    /// Has it read anew, what is in use at once and the rest when it is asked for. What is known stays
    /// in use until then, so that a flush during an outage loses nothing; remembered failures are
    /// forgotten. Says how many objects it was; none if there is no such vault or reference.
    #[must_use]
    pub fn flush(&self, what: &Flush) -> Option<usize> {
        let vaults = self.vaults();
        let reference = match what {
            Flush::All => None,
            Flush::Vault(name) => {
                vaults.find(name)?;
                None
            }
            Flush::Reference(text) => Some(Ask::new(&vaults, &Access::All, text).ok()?),
        };
        let mut cache = self.0.cache();
        let meant = cache
            .iter_mut()
            .filter(|(key, _)| match (what, &reference) {
                (Flush::Vault(name), _) => key.vault.name() == name,
                (_, Some(ask)) => **key == ask.key,
                (_, None) => true,
            });
        let mut count = 0;
        let mut in_use = Vec::new();
        for (_, entry) in meant {
            entry.hurry();
            count += 1;
            in_use.extend(entry.asked().cloned());
        }
        drop(cache);
        flight::refresh(&self.0, &in_use);
        Some(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::Arc;
    use std::time::Duration;

    use tempfile::TempDir;
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::{parse, parse_again};
    use crate::environment::Environment;

    struct Bed {
        home: TempDir,
        resolver: Resolver,
    }

    impl Bed {
        fn new() -> Self {
            let home = TempDir::new().expect("a directory");
            let yaml = yaml(&home, 300);
            let config = parse(&yaml, &Arc::new(Environment::default())).expect("a configuration");
            let resolver = Resolver::new(config.vaults, 1, Handle::current());
            Self { home, resolver }
        }

        fn put(&self, text: &str) {
            let new = self.home.path().join("new");
            fs::write(&new, text).expect("a file");
            fs::rename(&new, self.home.path().join("token")).expect("a file");
        }

        async fn get(&self) -> String {
            let wait = Duration::from_secs(2);
            let got = self
                .resolver
                .value(&Access::All, "{vault://files/token}", wait);
            match got.await {
                Ok(value) => value.value.secret().expose_text().expect("text").to_owned(),
                Err(unresolved) => unresolved.failure.kind.name().to_owned(),
            }
        }

        fn reload(&self, ttl: u32) {
            let before = self.resolver.vaults();
            let environment = Arc::new(Environment::default());
            let config = parse_again(&yaml(&self.home, ttl), &environment, Some(&before));
            self.resolver
                .replace(config.expect("a configuration").vaults);
        }
    }

    fn yaml(home: &TempDir, ttl: u32) -> String {
        let path = home.path().display();
        format!("vaults: [{{name: fs, prefix: files, config: {{prefix: {path}, ttl: {ttl}}}}}]")
    }

    fn reference() -> Flush {
        Flush::Reference("{vault://files/token}".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_flushed_is_read_anew_and_stays_in_use_until_then() {
        for what in [Flush::All, Flush::Vault("files".to_owned()), reference()] {
            let bed = Bed::new();
            assert_eq!(bed.get().await, "not-found");
            bed.put("first");
            assert_eq!(bed.resolver.flush(&what), Some(1), "{what:?}");
            assert_eq!(bed.get().await, "first", "{what:?}");
            bed.put("second");
            assert_eq!(bed.resolver.flush(&what), Some(1), "{what:?}");
            assert_eq!(bed.get().await, "second", "{what:?}");
        }
        let bed = Bed::new();
        assert_eq!(bed.resolver.flush(&Flush::All), Some(0));
        assert_eq!(bed.resolver.flush(&Flush::Vault("none".to_owned())), None);
        let unknown = Flush::Reference("{vault://none/x}".to_owned());
        assert_eq!(bed.resolver.flush(&unknown), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_vault_that_changes_takes_its_entries_with_it_and_another_keeps_them() {
        let bed = Bed::new();
        bed.put("first");
        assert_eq!(bed.get().await, "first");
        let vault = |bed: &Bed| Arc::clone(bed.resolver.vaults().find("files").expect("a vault"));
        let before = vault(&bed);
        bed.reload(300);
        assert!(
            Arc::ptr_eq(&before, &vault(&bed)),
            "the same fields: the same vault"
        );
        assert_eq!(bed.resolver.flush(&Flush::All), Some(1));
        bed.reload(301);
        assert!(!Arc::ptr_eq(&before, &vault(&bed)));
        assert_eq!(bed.resolver.flush(&Flush::All), Some(0));
        assert_eq!(bed.get().await, "first");
    }
}
