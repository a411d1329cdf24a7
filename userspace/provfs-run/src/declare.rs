//! What the environment of the command is to say, and under which names the kernel looks for it.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::ffi::OsStrExt,
    path::Path,
};

use provfs::pure::environ::{Kind, NameList};

/// The names that the kernel looks for, best first, by kind.
#[derive(Debug)]
pub(crate) struct Names([Vec<OsString>; Kind::ALL.len()]);

impl Names {
    /// Those of the running kernel, or the defaults where it does not say.
    pub(crate) fn read(root: &Path) -> Self {
        let list = |kind: Kind| {
            let setting = match kind {
                Kind::Session => "env_session",
                Kind::Tool => "env_tool",
                Kind::Turn => "env_turn",
                Kind::Intent => "env_intent",
            };
            let running = fs::read(root.join("proc/sys/provfs").join(setting)).ok();
            let text = running.as_deref().unwrap_or(kind.default_names());
            // A list that only a newer kernel understands is as good as none.
            let names = NameList::parse(text).unwrap_or(NameList::EMPTY);
            names
                .iter()
                .map(|name| OsStr::from_bytes(name).to_owned())
                .collect()
        };
        Names(Kind::ALL.map(list))
    }

    /// The names of one kind.
    fn of(&self, kind: Kind) -> &[OsString] {
        self.0.get(kind.index()).map_or(&[], |names| names)
    }
}

/// A change of the environment.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Variables to remove.
    pub(crate) remove: Vec<OsString>,
    /// Variables to set.
    pub(crate) set: Vec<(OsString, OsString)>,
    /// What cannot be declared, because the kernel looks for no name of that kind.
    pub(crate) deaf: Vec<Kind>,
}

/// Works out how to declare these values.
///
/// Each goes under the name that counts before all others, so that those need not be removed. With
/// `clear`, all names of all kinds are removed first.
pub(crate) fn plan(names: &Names, values: [Option<&OsStr>; Kind::ALL.len()], clear: bool) -> Plan {
    let mut plan = Plan::default();
    for (kind, value) in Kind::ALL.into_iter().zip(values) {
        let names = names.of(kind);
        if clear {
            plan.remove.extend_from_slice(names);
        }
        match (value, names.first()) {
            (Some(value), Some(name)) => plan.set.push((name.clone(), value.to_owned())),
            (Some(_), None) => plan.deaf.push(kind),
            (None, _) => {}
        }
    }
    plan
}

/// The word for a kind.
pub(crate) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Session => "session",
        Kind::Tool => "tool",
        Kind::Turn => "turn",
        Kind::Intent => "intent",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use provfs::pure::environ::{Declared, Wanted, search_slice};

    use super::*;

    #[test]
    fn the_first_name_of_each_kind_is_taken() {
        let names = Names::read(Path::new("/no/such/root"));
        let values = [Some(OsStr::new("s")), None, Some(OsStr::new("7")), None];
        let plan = plan(&names, values, false);
        assert_eq!(
            plan.set,
            [
                ("PROV_SESSION".into(), "s".into()),
                ("PROV_TURN".into(), "7".into())
            ]
        );
        assert_eq!((plan.remove.len(), plan.deaf.len()), (0, 0));
    }

    #[test]
    fn the_running_kernel_says_which_names() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("proc/sys/provfs")).unwrap();
        fs::write(
            root.path().join("proc/sys/provfs/env_session"),
            "MY_ID, PROV_SESSION\n",
        )
        .unwrap();
        fs::write(root.path().join("proc/sys/provfs/env_tool"), "\n").unwrap();
        let names = Names::read(root.path());
        let value = Some(OsStr::new("x"));
        let plan = plan(&names, [value, value, value, None], true);
        assert_eq!(
            plan.set,
            [
                ("MY_ID".into(), "x".into()),
                ("PROV_TURN".into(), "x".into())
            ]
        );
        assert_eq!(plan.deaf, [Kind::Tool]);
        assert_eq!(
            plan.remove,
            [
                "MY_ID",
                "PROV_SESSION",
                "PROV_TURN",
                "CLAUDE_TURN",
                "PROV_INTENT",
                "CLAUDE_INTENT",
                "AGENTNS_INTENT"
            ]
            .map(OsString::from)
        );
    }

    proptest! {
        /// What the kernel would find in the environment that comes of it.
        #[test]
        fn the_kernel_finds_what_is_declared(
            session in "[^\\x00\\n]{1,20}", has_tool: bool, clear: bool,
            old in proptest::collection::vec((0..4usize, 0..3usize, "[a-z]{1,3}"), 0..8),
        ) {
            let names = Names::read(Path::new("/no/such/root"));
            let tool = has_tool.then_some(OsStr::new("Tool"));
            let plan = plan(&names, [Some(OsStr::new(&session)), tool, None, None], clear);
            let mut env: std::collections::BTreeMap<OsString, OsString> = old
                .iter()
                .filter_map(|(kind, rank, value)| Some((names.0[*kind].get(*rank)?.clone(), value.into())))
                .collect();
            let was_tool = env.keys().any(|name| names.of(Kind::Tool).contains(name));
            env.retain(|name, _| !plan.remove.contains(name));
            env.extend(plan.set);
            let block: Vec<u8> = env
                .iter()
                .flat_map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes(), b"\0"].concat())
                .collect();
            let mut found = Declared::new();
            search_slice(&Wanted::defaults(), &mut found, &block);
            prop_assert_eq!(found.get(Kind::Session).map(|claim| claim.value), Some(session.as_bytes()));
            let found_tool = found.get(Kind::Tool).map(|claim| claim.value);
            if has_tool {
                prop_assert_eq!(found_tool, Some(&b"Tool"[..]));
            } else {
                prop_assert_eq!(found_tool.is_some(), was_tool && !clear);
            }
            prop_assert!(!clear || found.get(Kind::Turn).is_none());
        }
    }
}
