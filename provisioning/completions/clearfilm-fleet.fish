# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_clearfilm_fleet_global_optspecs
    string join \n h/help V/version
end

function __fish_clearfilm_fleet_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_clearfilm_fleet_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_clearfilm_fleet_using_subcommand
    set -l cmd (__fish_clearfilm_fleet_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -s V -l version -d 'Print version'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "render" -d 'Render a file for one device'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "key" -d 'Make keys that sign releases'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "repo" -d 'Keep the repository that devices update from'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "update" -d 'Bring this device what it shall run'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "apply" -d 'Bring what a folder tells this device to run, and wait until it stays or was rolled back; for a Mender update module, and for a person with a stick'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "inventory" -d 'List every unit that the broker knows: state, versions, engine, certificate, outbox, update, alarms'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "support-bundle" -d 'Write one file for whoever helps: versions, configuration, engines, state, alarms, updates, logs. No image, no reading, no name of a patient or an exam is in it'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "completions" -d 'Print what a shell reads to complete a command line'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -f -a "acl" -d 'The broker\'s access rules for one device, its readers and its operators (mosquitto\'s form)'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -f -a "unit" -d 'A systemd unit, hardened'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l site -d 'Site, [a-z0-9-], 1 to 32' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l unit -d 'Device id, [a-z0-9-], 4 to 32; also its user name at the broker' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l root -d 'Root of the topic tree' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l form -d 'Which broker reads them' -r -f -a "mosquitto\t'`acl_file`'
emqx\t'`acl.conf`'"
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l dashboard -d 'User name of dashboards' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l operator -d 'User name of operators' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l slots -d 'Folders that say what each service starts' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l switch -d 'The script that root runs for the agent' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l systemd -d 'Version of the device\'s systemd; what came later is left out' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand key; and not __fish_seen_subcommand_from new id" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand key; and not __fish_seen_subcommand_from new id" -f -a "new" -d 'Make a private key, for its owner alone, and its public half beside it'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand key; and not __fish_seen_subcommand_from new id" -f -a "id" -d 'Print the identifier of a key'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand key; and __fish_seen_subcommand_from new" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand key; and __fish_seen_subcommand_from id" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "roles" -d 'Draft what must change so that the keys of a file hold the roles: at first, to rotate, to revoke'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "add" -d 'Draft that the files of a folder are offered'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "release" -d 'Draft a release'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "fleet" -d 'Draft which devices install which release, and when'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "halt" -d 'Draft that nobody starts any more'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "sign" -d 'Sign every draft that these keys may sign'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "status" -d 'Print what is drafted and what it lacks'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "publish" -d 'Publish every draft with a new snapshot and timestamp; without drafts, make them fresh'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "export" -d 'Copy what is published to a folder, a USB stick\'s for instance'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and not __fish_seen_subcommand_from roles add release fleet halt sign status publish export check" -f -a "check" -d 'Read what is published as a new device would'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from roles" -l valid -d 'Life of the document' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from roles" -l renew -d 'Draft a new root also where nobody changed, because the old one ends'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from roles" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from add" -l valid -d 'Life of the document' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from release" -l valid -d 'Life of the document' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from release" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from fleet" -l valid -d 'Life of the document' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from fleet" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from halt" -l valid -d 'Life of the document' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from halt" -l undo -d 'That they go on'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from halt" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from sign" -l key -d 'A private key' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from sign" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from publish" -l key -d 'A private key' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from publish" -l snapshot-valid -d 'Life of the snapshot' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from publish" -l timestamp-valid -d 'Life of the timestamp: how long somebody can hide what is newer' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from publish" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from export" -l key -d 'A private key' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from export" -l valid -d 'Life of the copy\'s timestamp' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from export" -l timestamp-valid -d 'Life of our own, which gets a new one too' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from export" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from check" -l root -d 'The root that devices are shipped with' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand repo; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "check" -d 'Ask the repository what this device shall run'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "fetch" -d 'The same, and fetch it, verified and ready to run'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "run" -d 'The agent: asks from time to time, and brings what this device shall run, until it is stopped'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "status" -d 'What the agent says of itself, as JSON'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "approve" -d 'Approve the bundle of the release that waits for it'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "roll-back" -d 'Go back to the release before, and never try this one again here'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and not __fish_seen_subcommand_from check fetch run status approve roll-back rebuild-trust" -f -a "rebuild-trust" -d 'Set damaged metadata aside and begin with the shipped root again; nothing older than what was believed is believed then'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from check" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from check" -l from -d 'A folder with the repository, a USB stick\'s for instance, instead of `update.source`' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from check" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from fetch" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from fetch" -l from -d 'A folder with the repository, a USB stick\'s for instance, instead of `update.source`' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from fetch" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from run" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from run" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from status" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from status" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from approve" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from approve" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from roll-back" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from roll-back" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from rebuild-trust" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand update; and __fish_seen_subcommand_from rebuild-trust" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand apply" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand apply" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand inventory" -l config -d 'A configuration whose `[mqtt]` section says which broker, and as whom' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand inventory" -l site -d 'Only this site' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand inventory" -l wait -d 'How long to wait for messages after the last one came' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand inventory" -l json -d 'As JSON, by site/unit'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand inventory" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand support-bundle" -l config -d 'The device\'s configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand support-bundle" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand completions" -s h -l help -d 'Print help'
