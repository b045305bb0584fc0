# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_clearfilm_global_optspecs
    string join \n h/help V/version
end

function __fish_clearfilm_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_clearfilm_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_clearfilm_using_subcommand
    set -l cmd (__fish_clearfilm_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c clearfilm -n "__fish_clearfilm_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -s V -l version -d 'Print version'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "run" -d 'The service: DICOM in, findings and drafts out, until it is stopped'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "read" -d 'Read files (DICOM, PNG, JPEG) and print findings and draft'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "render" -d 'Write a picture as it was understood: grey as displayed, or the stored values'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "check" -d 'Check a configuration and print every effective value with its origin'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "selftest" -d 'Run the bundle\'s golden images on each engine and compare'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "phantom" -d 'Draw phantoms: chest radiographs that no patient ever had, as DICOM or PNG'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "bench" -d 'Measure each stage of a reading on one drawn object'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "watch" -d 'Subscribe to the broker and print messages as they arrive'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "doctor" -d 'Try everything around: engines, board, disk, clock, ports, broker'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "status" -d 'How the running unit is doing'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "outbox" -d 'Messages of the running unit that wait for the broker: list, retry, drop'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "exam" -d 'Erase an exam from the running unit'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "alarm" -d 'Clear an alarm of the running unit'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "pixels" -d 'Write the encoder\'s input pixels of files to safetensors, for training'
complete -c clearfilm -n "__fish_clearfilm_needs_command" -f -a "completions" -d 'Print what a shell reads to complete a command line'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand run" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand run" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -l bundle -d 'Bundle folder in place of the configured one' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -l engine -d 'Engine in place of the configured order: tensorrt, cuda, cpu (all ONNX Runtime) or tract' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -l unvalidated -d 'Also show findings that were validated on phantoms only'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -l json -d 'One JSON object a file; the same bytes whenever the file, bundle, policy and engine are the same'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand read" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand render" -s o -l out -d 'PNG to write' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand render" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand render" -l stored -d 'The stored values in place of grey'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand render" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand check" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand check" -l default -d 'Print the commented default configuration instead'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand check" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand check" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand selftest" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand selftest" -l bundle -d 'Bundle folder in place of the configured one' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand selftest" -l json -d 'As JSON, one object an engine'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand selftest" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -s o -l out -d 'Folder to write to; made if it is missing' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l count -d 'How many seeds to draw, counted up from --seed' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l seed -d 'First seed' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l variant -d 'What is to be seen; `all` takes the next variant with each seed' -r -f -a "all\t'Every variant in turn'
normal\t'Nothing but the chest'
effusion\t'Fluid at the base of one lung or both'
cardiomegaly\t'A heart wider than 0.55 of the thorax'
pneumothorax\t'Air between one lung and the chest wall'
nodule\t'One to three round opacities'
device\t'Pacemaker, or tubes, lines and electrodes'"
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l projection -d 'How the patient stands; `both` draws each seed twice' -r -f -a "pa\t'From back to front, standing'
ap\t'From front to back, mostly at the bedside'
both\t'One of each'"
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l rows -d 'Height, pixels' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l columns -d 'Width, pixels' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l bits -d 'Bits of a stored DICOM sample' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l photometric -d 'Whether the smallest DICOM sample is white (monochrome1) or black (monochrome2)' -r -f -a "monochrome1\t'Small samples are bright'
monochrome2\t'Small samples are dark'"
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l labels -d 'Also write a table of what was drawn: file,seed,variant,projection' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -l png -d 'Write 8-bit PNG instead of DICOM'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand phantom" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -l runs -d 'Readings that are measured; five more go before them' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -l engine -d 'Engine in place of the configured order: cpu (ONNX Runtime) or tract' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -l rows -d 'Rows of the object' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -l columns -d 'Columns of the object' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand bench" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -l site -d 'Only this site' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -l unit -d 'Only this unit' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -l receipts-as -d 'Confirm every findings and report message that was printed, as this consumer (one of `mqtt.receipts`)' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -l count -d 'End after this many messages' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -l json -d 'One JSON object a message: topic, retained, expiry and the envelope'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand watch" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand doctor" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand doctor" -l report -d 'Write everything to a file that can be sent to whoever helps: no patient\'s data, no keys' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand doctor" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand doctor" -l engines -d 'Only the engines and the board'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand doctor" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand status" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand status" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand status" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -f -a "list" -d 'The oldest messages that wait'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -f -a "retry" -d 'Try everything again now, also what the broker denied'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and not __fish_seen_subcommand_from list retry drop" -f -a "drop" -d 'Never send a message'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from list" -l limit -d 'At most so many' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from list" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from list" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from retry" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from retry" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from retry" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from drop" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from drop" -l json -d 'As JSON'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand outbox; and __fish_seen_subcommand_from drop" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand exam; and not __fish_seen_subcommand_from erase" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand exam; and not __fish_seen_subcommand_from erase" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand exam; and not __fish_seen_subcommand_from erase" -f -a "erase" -d 'Erase an exam: images, readings, messages that wait, and what the broker holds. The store\'s file is written anew at the next start'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand exam; and __fish_seen_subcommand_from erase" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand exam; and __fish_seen_subcommand_from erase" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand alarm; and not __fish_seen_subcommand_from clear" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand alarm; and not __fish_seen_subcommand_from clear" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand alarm; and not __fish_seen_subcommand_from clear" -f -a "clear" -d 'Say that an alarm was seen to; one whose cause is still there comes again'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand alarm; and __fish_seen_subcommand_from clear" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand alarm; and __fish_seen_subcommand_from clear" -s h -l help -d 'Print help'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand pixels" -s c -l config -d 'Configuration file (TOML); without it the defaults and the environment count' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand pixels" -l fit -d 'How a radiograph is brought to a square' -r -f -a "pad\t'Padded to a square with black, then bicubic'
squash\t'Aspect ratio given up, antialiased bilinear'"
complete -c clearfilm -n "__fish_clearfilm_using_subcommand pixels" -l size -d 'Side of the square, pixels' -r
complete -c clearfilm -n "__fish_clearfilm_using_subcommand pixels" -s o -l out -d 'File to write' -r -F
complete -c clearfilm -n "__fish_clearfilm_using_subcommand pixels" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c clearfilm -n "__fish_clearfilm_using_subcommand completions" -s h -l help -d 'Print help'
