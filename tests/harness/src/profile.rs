//! Which gateway to behave as, and what that gateway lets one choose.

/// The gateway whose behaviour a [`crate::Gateway`] has.
#[derive(Clone, Debug)]
pub enum Profile {
    /// Envoy 1.40 with its V8 runtime.
    Envoy,
    /// nginx with `ngx_wasm_module`, the engine of Kong 3.4 to 3.9.
    Nginx(NginxOptions),
}

impl Profile {
    /// Whether this is nginx.
    pub fn is_nginx(&self) -> bool {
        matches!(self, Self::Nginx(_))
    }

    pub(crate) fn nginx(&self) -> Option<&NginxOptions> {
        match self {
            Self::Envoy => None,
            Self::Nginx(options) => Some(options),
        }
    }

    pub(crate) fn isolates_streams(&self) -> bool {
        self.nginx()
            .is_some_and(|options| options.isolation == Isolation::Stream)
    }

    pub(crate) fn is_kong(&self) -> bool {
        self.nginx().is_some_and(|options| options.kong)
    }
}

/// What differs between the nginx gateways that were looked at.
#[derive(Clone, Debug)]
pub struct NginxOptions {
    /// `proxy_on_http_call_response` is called after a failed callout. It is
    /// not in Kong up to 3.8: the request just goes on. Default: true.
    pub callback_on_failed_callout: bool,
    /// `client_body_buffer_size`: a longer body is spooled to a file, and
    /// setting it appends instead of replacing. Default: 16 KiB.
    pub client_body_buffer_size: usize,
    /// A configuration that is a JSON object is written anew: `/` as `\/`, empty lists as `{}`, the
    /// members in any order. Default: false; in Kong true.
    pub encodes_configuration: bool,
    /// `proxy_call_foreign_function` exists; it traps on Kong 3.9. An unknown
    /// function traps in either case. Default: true.
    pub foreign_functions: bool,
    /// What shares an instance. Default: [`Isolation::None`], as in Kong.
    pub isolation: Isolation,
    /// Runs in a location as Kong makes it: `$upstream_uri` is what goes to the
    /// upstream, `kong.*` properties exist, and a configuration that is refused
    /// fails to load instead of ending the workers. Default: false.
    pub kong: bool,
    /// How long the configuration may be, in bytes: outside Kong it is one
    /// parameter of a directive. Default: 4,096; in Kong no limit.
    pub parameter_limit: Option<usize>,
    /// What the filter reads as `:authority`: server name and port, never the
    /// client's Host. Default: `localhost:8000`.
    pub server: String,
    /// A `shm_kv` zone is configured; without one any shared-data call traps.
    /// Default: true.
    pub shm_kv: bool,
    /// Variables beside `upstream_uri` that a filter may read as `ngx.<name>`;
    /// they are read-only. Default: none.
    pub variables: Vec<(String, String)>,
}

impl NginxOptions {
    /// Plain nginx at the module's newest commit.
    pub fn plain() -> Self {
        Self::default()
    }

    /// Kong 3.9: `$upstream_uri` is there, every foreign call traps.
    pub fn kong() -> Self {
        Self {
            encodes_configuration: true,
            foreign_functions: false,
            kong: true,
            parameter_limit: None,
            ..Self::default()
        }
    }

    /// Kong up to 3.8: as 3.9, and silent about a failed callout.
    pub fn kong_38() -> Self {
        Self {
            callback_on_failed_callout: false,
            ..Self::kong()
        }
    }
}

impl Default for NginxOptions {
    fn default() -> Self {
        Self {
            callback_on_failed_callout: true,
            client_body_buffer_size: 16 * 1024,
            encodes_configuration: false,
            foreign_functions: true,
            isolation: Isolation::None,
            kong: false,
            parameter_limit: Some(4096),
            server: "localhost:8000".into(),
            shm_kv: true,
            variables: Vec::new(),
        }
    }
}

/// nginx: which requests run in one instance of a module (`proxy_wasm_isolation`).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Isolation {
    /// All of a worker's requests, with all its filters of the module.
    #[default]
    None,
    /// Each request has one of its own, which is started and configured when the request comes, and
    /// ends with it.
    Stream,
}

/// What Envoy does for a worker whose VM died.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum FailurePolicy {
    /// 503 to everything until a restart (Envoy's default).
    #[default]
    FailClosed,
    /// The filter is left out of the chain.
    FailOpen,
    /// A new VM at the next request, at most one a second; until then 503.
    FailReload,
}
