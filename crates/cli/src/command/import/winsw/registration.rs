//! What the service manager was told of the service.

use super::{File, Wrong, child, element, elements, inner, wrong};
use crate::command::import::draft::duration;

impl File<'_, '_> {
    pub(super) fn registration(&mut self) -> Result<(), Wrong> {
        if let Some(display) = self.of("name").filter(|n| *n != self.draft.name) {
            self.draft.install.push(("display-name", display));
        }
        if let Some(description) = self.of("description") {
            self.draft.install.push(("description", description.clone()));
            self.draft.description = Some(description);
        }
        self.start()?;
        for other in elements(self.root, "depend") {
            self.draft.install.push(("depends-on", inner(other)));
        }
        if let Some(sddl) = self.of("securityDescriptor") {
            self.draft.install.push(("security", sddl));
        }
        let preshutdown = self.is_on("preshutdown")?;
        if let Some(timeout) = self.time("preshutdownTimeout")?.filter(|_| preshutdown) {
            let timeout = duration(timeout).trim_matches('"').to_owned();
            self.draft.install.push(("stop-timeout", timeout));
        }
        self.account();
        Ok(())
    }

    fn start(&mut self) -> Result<(), Wrong> {
        let delayed = self.is_on("delayedAutoStart")?;
        let start = match self.of("startmode").unwrap_or_default().to_lowercase().as_str() {
            "" | "automatic" if delayed => "delayed",
            "" | "automatic" => return Ok(()),
            "manual" => "demand",
            "disabled" => "disabled",
            // Those of drivers.
            other @ ("boot" | "system") => {
                self.draft.lose(
                    format!("startmode {other}"),
                    "a service starts automatically, on demand or not at all: --start",
                );
                return Ok(());
            }
            other => {
                let node = element(self.root, "startmode").unwrap_or(self.root);
                return Err(wrong(
                    node,
                    format!("`{other}` is no <startmode>: Automatic, Manual or Disabled"),
                ));
            }
        };
        self.draft.install.push(("start", start.into()));
        Ok(())
    }

    fn account(&mut self) {
        let Some(account) = element(self.root, "serviceaccount") else {
            self.draft.account("LocalSystem");
            return;
        };
        let user = child(account, "username").or_else(|| child(account, "user")).unwrap_or_default();
        let user = match child(account, "domain") {
            Some(domain) if !user.is_empty() => format!(r"{domain}\{user}"),
            Some(_) | None => user,
        };
        if let Some(prompt) = element(account, "prompt") {
            let how = inner(prompt);
            let why =
                "`keepwell service install` asks for a password, but not for a name: --account gives it";
            self.draft.lose(format!("serviceaccount/prompt {how}"), why);
        }
        if child(account, "allowservicelogon").is_some_and(|a| a.eq_ignore_ascii_case("true")) {
            let why = "where the account lacks the right to log on as a service, `keepwell service install` says so, and --grant \
                       gives it";
            self.draft.differs("serviceaccount/allowservicelogon", why);
        }
        self.draft.account(&user);
    }
}
