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
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_needs_command" -f -a "completions" -d 'Print what a shell reads to complete a command line'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -f -a "acl" -d 'The broker\'s access rules for one device, its readers and its operators (mosquitto\'s form)'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and not __fish_seen_subcommand_from acl unit" -f -a "unit" -d 'The systemd unit of `clearfilm run`, hardened'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l site -d 'Site, [a-z0-9-], 1 to 32' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l unit -d 'Device id, [a-z0-9-], 4 to 32; also its user name at the broker' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l root -d 'Root of the topic tree' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l dashboard -d 'User name of dashboards' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -l operator -d 'User name of operators' -r
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from acl" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l binary -d 'The device\'s binary' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -l config -d 'Its configuration' -r -F
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand render; and __fish_seen_subcommand_from unit" -s h -l help -d 'Print help'
complete -c clearfilm-fleet -n "__fish_clearfilm_fleet_using_subcommand completions" -s h -l help -d 'Print help'
