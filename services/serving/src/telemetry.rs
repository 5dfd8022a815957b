//! Logs as JSON lines on standard output, traces to an OTLP collector where OTEL_EXPORTER_OTLP_ENDPOINT names one.
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing_subscriber::{EnvFilter, layer::SubscriberExt, util::SubscriberInitExt};

/// The tracer could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter refused its configuration (OTEL_EXPORTER_OTLP_*).
    #[error("the OTLP exporter can't be built")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
    /// Another subscriber was installed before.
    #[error("logs were set up twice")]
    Twice(#[from] tracing_subscriber::util::TryInitError),
}

/// Keeps the exporter alive; `shutdown` sends what is still buffered.
#[derive(Debug)]
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Installs logs and traces for the process. `service` is the default of OTEL_SERVICE_NAME.
    pub fn install(service: &'static str) -> Result<Self, TelemetryError> {
        let logs = tracing_subscriber::fmt::layer().json().flatten_event(true).with_current_span(false);
        let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,aws=warn,krafka=warn"));
        let registry = tracing_subscriber::registry().with(filter).with(logs);
        if std::env::var_os("OTEL_EXPORTER_OTLP_ENDPOINT").is_none_or(|endpoint| endpoint.is_empty()) {
            registry.try_init()?;
            return Ok(Self { provider: None });
        }
        let exporter = opentelemetry_otlp::SpanExporter::builder().with_tonic().build()?;
        let mut resource = opentelemetry_sdk::Resource::builder();
        if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
            resource = resource.with_service_name(service);
        }
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource.build()).build();
        registry.with(tracing_opentelemetry::layer().with_tracer(provider.tracer(service))).try_init()?;
        Ok(Self { provider: Some(provider) })
    }

    /// Sends what is buffered. A collector that does not answer costs a log line, not the exit code.
    pub fn shutdown(self) {
        if let Some(provider) = self.provider
            && let Err(error) = provider.shutdown()
        {
            tracing::warn!(%error, "the last traces were not delivered");
        }
    }
}
