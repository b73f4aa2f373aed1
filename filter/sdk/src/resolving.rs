//! The root context that stands around the author's.

use std::time::Duration;

use proxy_wasm::traits::{Context, HttpContext, RootContext};
use proxy_wasm::types::ContextType;
use vaultref_filter::{DocumentId, Host as _, Kind, Level, News};

use crate::ResolvedConfiguration;
use crate::host::{GATEWAY, take_call, with_documents};
use crate::unavailable::Unavailable;

/// How often there is a tick where secrets are kept fresh.
const TICK: Duration = Duration::from_millis(200);

/// Keeps the configuration of a root context resolved. Everything else is the root context's: its
/// requests once there is a configuration, its own calls, its ticks.
pub struct Resolving<T> {
    filter: T,
    document: Option<DocumentId>,
    /// The filter has a configuration that it can use.
    is_serving: bool,
    /// There are ticks. In nginx their period can be set only once.
    has_ticks: bool,
    /// How often the filter wants a tick, and when it had the last one, in nanoseconds.
    period: Option<u64>,
    ticked: u64,
}

impl<T: ResolvedConfiguration + 'static> Resolving<T> {
    /// Stands around this root context.
    pub fn new(filter: T) -> Self {
        Self {
            filter,
            document: None,
            is_serving: false,
            has_ticks: false,
            period: None,
            ticked: 0,
        }
    }

    /// Takes a configuration into use; says what is wrong with it.
    fn configure(&mut self, size: usize) -> Result<(), String> {
        let fields = self.filter.referenceable();
        let configured = with_documents(|documents| {
            let id = documents
                .configure(size, fields)
                .map_err(|error| error.to_string())?;
            Ok((id, documents.has_references(id), documents.age()))
        });
        let (id, has_references, age) =
            configured.unwrap_or_else(|| Err("another callback is under way".to_owned()))?;
        let wanted = self.filter.tick_period();
        if let Err(why) = self.start_ticks(has_references, wanted) {
            with_documents(|documents| documents.remove(id));
            return Err(why);
        }
        // From here on the former one is no longer in force.
        self.forget();
        self.document = Some(id);
        self.period = wanted.map(|period| u64::try_from(period.as_nanos()).unwrap_or(u64::MAX));
        self.ticked = age;
        self.look_for_news();
        if !has_references && !self.is_serving {
            return Err("the filter refuses it".to_owned());
        }
        Ok(())
    }

    /// Sees to it that there are ticks, if they are needed.
    fn start_ticks(
        &mut self,
        has_references: bool,
        wanted: Option<Duration>,
    ) -> Result<(), String> {
        if self.has_ticks || !(has_references || wanted.is_some()) {
            return Ok(());
        }
        let own = has_references.then_some(TICK).into_iter();
        let period = own.chain(wanted).min().unwrap_or(TICK).as_millis().max(1);
        let period = u32::try_from(period).unwrap_or(u32::MAX);
        GATEWAY.set_tick_period(period).map_err(|status| {
            format!("the gateway gives no ticks, so nothing is kept fresh: {status}")
        })?;
        self.has_ticks = true;
        Ok(())
    }

    /// Leaves the root without a configuration, for which nobody asks any longer.
    fn forget(&mut self) {
        self.is_serving = false;
        if let Some(id) = self.document.take() {
            with_documents(|documents| documents.remove(id));
        }
    }

    /// Hands the configuration over if it has changed.
    fn look_for_news(&mut self) {
        let Some(id) = self.document else { return };
        match with_documents(|documents| documents.news(id)).flatten() {
            None => {}
            Some(News::Lost) => self.is_serving = false,
            Some(News::Resolved(configuration)) => {
                self.is_serving = self
                    .filter
                    .on_resolved_configuration(configuration.expose());
                if !self.is_serving {
                    let message =
                        "the filter refuses its configuration; requests are answered with 503";
                    GATEWAY.log(Level::Error, message);
                }
            }
        }
    }

    /// The filter's own tick, if it is due.
    fn tick_filter(&mut self) {
        let age = with_documents(|documents| documents.age());
        let (Some(period), Some(age)) = (self.period, age) else {
            return;
        };
        // Gateways are not that exact.
        let passed = age.saturating_sub(self.ticked).saturating_add(1_000_000);
        if self.is_serving && passed >= period {
            self.ticked = age;
            self.filter.on_tick();
        }
    }
}

impl<T> Drop for Resolving<T> {
    fn drop(&mut self) {
        if let Some(id) = self.document {
            with_documents(|documents| documents.remove(id));
        }
    }
}

impl<T: ResolvedConfiguration + 'static> RootContext for Resolving<T> {
    fn on_vm_start(&mut self, size: usize) -> bool {
        self.filter.on_vm_start(size)
    }

    fn on_configure(&mut self, size: usize) -> bool {
        let Err(why) = self.configure(size) else {
            return true;
        };
        let message = format!("the configuration cannot be used: {why}");
        GATEWAY.log(Level::Error, &message);
        // It ends the load there, and what was in force stays so.
        if with_documents(|documents| documents.kind()) == Some(Kind::Envoy) {
            return false;
        }
        // Elsewhere it would end the worker; requests are answered with 503. What was there before must
        // not come back with the next change of a secret.
        self.forget();
        true
    }

    fn on_tick(&mut self) {
        if let Some(id) = self.document {
            with_documents(|documents| documents.on_tick(id));
            self.look_for_news();
        }
        self.tick_filter();
    }

    fn on_queue_ready(&mut self, queue: u32) {
        self.filter.on_queue_ready(queue);
    }

    fn on_log(&mut self) {
        RootContext::on_log(&mut self.filter);
    }

    fn create_http_context(&self, context: u32) -> Option<Box<dyn HttpContext>> {
        let own = self
            .is_serving
            .then(|| self.filter.create_http_context(context));
        // Without a context the SDK would end the VM.
        own.flatten().or_else(|| Some(Box::new(Unavailable)))
    }

    fn get_type(&self) -> Option<ContextType> {
        Some(ContextType::HttpContext)
    }
}

impl<T: ResolvedConfiguration + 'static> Context for Resolving<T> {
    fn on_http_call_response(&mut self, token: u32, headers: usize, body: usize, trailers: usize) {
        if !take_call(token) {
            return self
                .filter
                .on_http_call_response(token, headers, body, trailers);
        }
        with_documents(|documents| documents.on_http_call_response(token, headers, body));
        self.look_for_news();
    }

    fn on_grpc_call_response(&mut self, token: u32, status: u32, size: usize) {
        self.filter.on_grpc_call_response(token, status, size);
    }

    fn on_grpc_stream_initial_metadata(&mut self, token: u32, elements: u32) {
        self.filter.on_grpc_stream_initial_metadata(token, elements);
    }

    fn on_grpc_stream_message(&mut self, token: u32, size: usize) {
        self.filter.on_grpc_stream_message(token, size);
    }

    fn on_grpc_stream_trailing_metadata(&mut self, token: u32, elements: u32) {
        self.filter
            .on_grpc_stream_trailing_metadata(token, elements);
    }

    fn on_grpc_stream_close(&mut self, token: u32, status: u32) {
        self.filter.on_grpc_stream_close(token, status);
    }

    fn on_foreign_function(&mut self, function: u32, size: usize) {
        self.filter.on_foreign_function(function, size);
    }

    fn on_done(&mut self) -> bool {
        self.filter.on_done()
    }
}
