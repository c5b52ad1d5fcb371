//! Every metric that there is. docs/metrics.md is held to this list by a test.

/// What kind of metric it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Only grows, until its process starts anew.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bounds.
    Histogram,
}

impl Kind {
    /// The word of the format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Debug)]
pub struct Family {
    /// With its unit, and `_total` for a counter.
    pub name: &'static str,
    /// Its kind.
    pub kind: Kind,
    /// In the order in which they stand; parted by `, ` in the documentation.
    pub labels: &'static [&'static str],
    /// A sentence without a full stop.
    pub help: &'static str,
}

macro_rules! families {
    ($( $id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal; )*) => {
        $( pub(super) const $id: Family =
            Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help }; )*
        /// All of them, in the order of the page.
        pub const FAMILIES: &[&Family] = &[$(&$id),*];
    };
}

families! {
    STATE: Gauge "keepwell_service_state" ["service", "state"] "1 for the state that the instance is in, 0 for every other";
    READY: Gauge "keepwell_service_ready" ["service"] "1 if the instance can be used: it is up and no check has taken its readiness away, or it is a oneshot that ended well";
    WANTED: Gauge "keepwell_service_wanted" ["service"] "1 if operators want the instance up";
    SINCE: Gauge "keepwell_service_state_changed_timestamp_seconds" ["service"] "When the instance came into its state";
    STARTED: Gauge "keepwell_service_start_time_seconds" ["service"] "When the main process of the instance was started; absent while none runs";
    RESTARTS: Counter "keepwell_service_restarts_total" ["service"] "Restarts by keepwell itself since an operator last started the instance";
    EXITS: Counter "keepwell_service_exits_total" ["service", "class", "code", "expected"] "Ends of the main process, by the class of exit_codes, by exit code or signal, and by whether keepwell was stopping it";
    CPU: Counter "keepwell_service_cpu_seconds_total" ["service"] "Processor time of all processes of the instance";
    MEMORY: Gauge "keepwell_service_memory_bytes" ["service"] "Memory of all processes of the instance";
    PROCESSES: Gauge "keepwell_service_processes" ["service"] "Processes of the instance";
    THREADS: Gauge "keepwell_service_threads" ["service"] "Threads of all processes of the instance";
    DESCRIPTORS: Gauge "keepwell_service_open_descriptors" ["service"] "Open descriptors (on Windows handles) of all processes of the instance";
    LOG: Counter "keepwell_service_log_bytes_total" ["service"] "Bytes of output of the instance";
    PROBES: Histogram "keepwell_probe_duration_seconds" ["service", "purpose", "probe"] "How long attempts of a check took, passed or not";
    RESULTS: Counter "keepwell_probe_results_total" ["service", "purpose", "probe", "result"] "Answers of a check: pass, fail or unknown";
    BEAT: Gauge "keepwell_service_heartbeat_age_seconds" ["service"] "Time since the last heartbeat of the instance, or since its start if none came";
    BEAT_ERRORS: Counter "keepwell_service_heartbeat_errors_total" ["service"] "Frames and connections for heartbeats that this run of the instance had refused";
    REPORTED: Gauge "keepwell_service_reported_value" ["service", "name"] "Numbers that the program itself reports beside its heartbeats";
    INCIDENT_OPEN: Gauge "keepwell_service_incident_open" ["service"] "1 while an incident of the instance is open";
    INCIDENTS: Counter "keepwell_service_incidents_opened_total" ["service"] "Incidents of the instance that were opened";
    INCIDENTS_CLOSED: Counter "keepwell_service_incidents_closed_total" ["service"] "Incidents of the instance that are over";
    INCIDENT_SECONDS: Counter "keepwell_service_incident_seconds_total" ["service"] "How long the incidents that are over lasted, together; by their number it is the mean time to repair";
    GUARD: Gauge "keepwell_service_guard_tripped" ["service", "guard"] "1 while the guard has tripped";
    REACHED: Gauge "keepwell_service_guard_reached_timestamp_seconds" ["service", "guard"] "When what is foreseen to leak most likely reaches the bound of the guard; absent while nothing is foreseen";
    BUDGET: Gauge "keepwell_healing_budget_restarts" ["scope", "group"] "How many restarts of what lives the budget allows within its window";
    BUDGET_USED: Gauge "keepwell_healing_budget_used_restarts" ["scope", "group"] "How many of them were made within the window";
    BUDGET_WINDOW: Gauge "keepwell_healing_budget_window_seconds" ["scope", "group"] "The window of the budget";
    EVENTS: Counter "keepwell_events_total" ["kind", "level"] "Events, by kind and level, as keepwell events shows them";
    NOTIFY_WAITING: Gauge "keepwell_notify_waiting_notices" ["receiver"] "Notices that are not delivered to the receiver yet";
    NOTIFY: Counter "keepwell_notify_attempts_total" ["receiver", "result"] "Attempts to deliver a message: taken, later (it is tried again) or never";
    NOTIFY_LOST: Counter "keepwell_notify_lost_notices_total" ["receiver"] "Notices that found no room, were refused or grew too old";
    BUILD: Gauge "keepwell_build_info" ["version", "anchor_version"] "Always 1; the versions of the two processes";
    GUARDIAN_STARTED: Gauge "keepwell_start_time_seconds" [] "When the guardian was started";
    ACCEPTED: Gauge "keepwell_config_accepted_timestamp_seconds" [] "When the configuration in force was taken on";
    REBIRTHS: Counter "keepwell_daemon_restarts_total" [] "Daemons that had to be replaced under this guardian";
    OWN_CPU: Counter "keepwell_process_cpu_seconds_total" ["process"] "Processor time of keepwell's own processes";
    OWN_MEMORY: Gauge "keepwell_process_resident_memory_bytes" ["process"] "Memory of keepwell's own processes";
    OWN_DESCRIPTORS: Gauge "keepwell_process_open_descriptors" ["process"] "Open descriptors (on Windows handles) of keepwell's own processes";
    OWN_THREADS: Gauge "keepwell_process_threads" ["process"] "Threads of keepwell's own processes";
    QUEUE: Gauge "keepwell_engine_queue_messages" [] "Messages that wait for the engine";
    REFUSED: Counter "keepwell_engine_refused_messages_total" [] "Messages that found no room in the engine's queue; askers try again";
    STORE: Gauge "keepwell_store_queue_events" [] "Events that are not on the disk yet";
    STORE_LOST: Counter "keepwell_store_dropped_events_total" [] "Events that will never be stored";
    LOG_LOST: Counter "keepwell_log_dropped_bytes_total" [] "Bytes of output that no file got";
    REQUESTS: Counter "keepwell_http_requests_total" ["route", "code"] "Requests to this server, by route and status";
}
