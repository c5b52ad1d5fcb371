//! Incidents: those that are over from the store, the open ones as the engine knows them now.

use axum::http::StatusCode;
use axum::response::Response;
use keepwell_sdk::wire;

use super::failure::{Failure, json};
use super::query::{Pairs, Params};
use super::{ApiState, Shared};
use crate::message::Message;
use crate::store::{Down, IncidentQuery, ServiceFilter, reliability};

/// Without a bound in the question, this many of the newest.
const DEFAULT_LIMIT: u64 = 100;

pub(super) async fn incidents(state: Shared, pairs: Pairs) -> Result<Response, Failure> {
    let params = Params::new(pairs, &["service", "since", "limit", "id"])?;
    let query = IncidentQuery {
        services: ServiceFilter(params.all("service")),
        since: params.instant("since")?,
        id: params.number("id")?,
    };
    let limit = params.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    // Asked first: one that closes meanwhile is found closed in the store.
    let open = state.ask(|reply| Message::Incidents { reply }).await?;
    let (mut incidents, down) = stored(&state, query.clone()).await?;
    for incident in &mut incidents {
        if incident.state == "open"
            && let Some(now) = open.iter().find(|o| o.id == incident.id)
        {
            let timeline = std::mem::take(&mut incident.timeline);
            *incident = wire::Incident { timeline, omitted: incident.omitted, ..now.clone() };
        }
    }
    if let (Some(id), true) = (query.id, incidents.is_empty()) {
        let hint = "keepwell incidents: those that are known";
        return Err(Failure::new("unknown_incident", &format!("no incident {id} is known"), Some(hint)));
    }
    let services = reliability(&incidents, &down);
    incidents.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(json(StatusCode::OK, &wire::Incidents { incidents, services }))
}

async fn stored(state: &ApiState, query: IncidentQuery) -> Result<(Vec<wire::Incident>, Vec<Down>), Failure> {
    let store = state.store.clone();
    let read = move || Ok::<_, String>((store.incidents(&query)?, store.down()?));
    state.off_thread(read).await?.map_err(|e| super::events::unread(&e))
}
