//! A VM as callbacks reach it: one at a time.
//!
//! A gateway may call from inside a host function, while another callback is under way. The state is
//! in use then and such a call does without, except for the end of a context: what is known of it
//! would stay for ever. It is put off until the callback is over. Nothing is decided here.

use std::cell::{Cell, RefCell};

use crate::{Callbacks, Host, Vm};

/// The one VM of a module instance. `ENDS` says whether the module is told of the ends of contexts; each
/// request would pay for it.
pub struct Instance<H, const ENDS: bool> {
    vm: RefCell<Vm<H>>,
    /// Contexts that have ended while a callback was under way, and whether there are any.
    ended: Cell<Vec<u32>>,
    has_ended: Cell<bool>,
}

impl<H: Host, const ENDS: bool> Instance<H, ENDS> {
    /// With a VM without any configuration, in a module with these callbacks.
    pub const fn new(host: H, callbacks: Callbacks) -> Self {
        Self {
            vm: RefCell::new(Vm::new(host, callbacks)),
            ended: Cell::new(Vec::new()),
            has_ended: Cell::new(false),
        }
    }

    /// Runs a callback on the VM's state; none if another callback is under way.
    pub fn with<T>(&self, callback: impl FnOnce(&mut Vm<H>) -> T) -> Option<T> {
        let mut vm = self.vm.try_borrow_mut().ok()?;
        let done = callback(&mut vm);
        if ENDS && self.has_ended.get() {
            self.end_contexts(&mut vm);
        }
        Some(done)
    }

    #[cold]
    #[inline(never)]
    fn end_contexts(&self, vm: &mut Vm<H>) {
        self.has_ended.set(false);
        for context in self.ended.take() {
            vm.on_delete(context);
        }
    }

    /// A context ends.
    pub fn on_delete(&self, context: u32) {
        if self.with(|vm| vm.on_delete(context)).is_some() {
            return;
        }
        let mut ended = self.ended.take();
        ended.push(context);
        self.ended.set(ended);
        self.has_ended.set(true);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use serde_json::json;

    use super::*;
    use crate::Action;
    use crate::testing::{FakeHost, ROOT, rule};

    const CONTEXT: u32 = 7;

    #[test]
    fn a_context_that_ends_inside_a_callback_is_forgotten_after_it() {
        let host = Rc::new(FakeHost::default());
        let instance = Instance::<_, true>::new(Rc::clone(&host), Callbacks::Every);
        let text = rule(&json!({"set": {"headers": {"x": "{vault://v/a}"}}})).to_string();
        host.configuration.replace(text.clone().into_bytes());
        assert_eq!(
            instance.with(|vm| vm.on_configure(ROOT, text.len())),
            Some(true)
        );
        instance.with(|vm| vm.on_context_create(CONTEXT, ROOT));
        host.current.set(CONTEXT);
        let holds_body = || instance.with(|vm| vm.on_request_body(CONTEXT, 1, false));
        let action = instance.with(|vm| {
            let action = vm.on_request_headers(CONTEXT, false);
            // Whatever else the gateway calls now is not heard, but this is not lost.
            assert_eq!(instance.with(|_| ()), None);
            instance.on_delete(CONTEXT - 1);
            instance.on_delete(CONTEXT);
            action
        });
        assert_eq!(action, Some(Action::Pause));
        assert_eq!(holds_body(), Some(Action::Continue), "nobody waits for it");

        // Outside of a callback it is so at once.
        instance.with(|vm| vm.on_context_create(CONTEXT, ROOT));
        instance.with(|vm| vm.on_request_headers(CONTEXT, false));
        assert_eq!(holds_body(), Some(Action::Pause));
        instance.on_delete(CONTEXT);
        assert_eq!(holds_body(), Some(Action::Continue));
    }
}
