# Looks at what Wine cannot show (docs/windows-coverage.md) on a real Windows. Prints a line for each look; ends with 1 if one failed.
param(
    [string]$Keepwell = ".\keepwell.exe",
    [ValidateSet("now", "before-reboot", "after-reboot")][string]$Phase = "now"
)
$ErrorActionPreference = "Stop"
$Keepwell = (Resolve-Path $Keepwell).Path
$work = Join-Path $env:TEMP ("keepwell-look-" + [guid]::NewGuid().ToString("N"))
New-Item -ItemType Directory $work | Out-Null
Set-Location $work
$shell = "$env:SystemRoot\System32\WindowsPowerShell\v1.0\powershell.exe"
$script:failed = 0

function Look($what, $good, $seen) {
    if ($good) { Write-Output "ok    $what" }
    else { Write-Output "FAIL  $what`n      $seen"; $script:failed += 1 }
}

function Wait-For($what, [scriptblock]$test, $seconds = 30) {
    $end = (Get-Date).AddSeconds($seconds)
    while ((Get-Date) -lt $end) {
        if (& $test) { return $true }
        Start-Sleep -Milliseconds 200
    }
    return $false
}

function Service($name) { & $Keepwell status --json $name | ConvertFrom-Json | Select-Object -First 1 }
function Program($name, $text) { Set-Content -Encoding utf8 "$work\$name.ps1" $text }

# A guardian that ends at a shutdown of the host and is there again after the boot: in two runs.
$reboot = "keepwell-look-reboot"
$told = "$env:ProgramData\keepwell\$reboot-told.txt"
function Registered($name, $text) {
    $folder = "$env:ProgramData\keepwell\$name"
    New-Item -ItemType Directory $folder -Force | Out-Null
    Set-Content -Encoding ascii "$folder\keepwell.toml" $text
    & $Keepwell service install --name $name --config "$folder\keepwell.toml" --account system --now | Out-Null
}
function Finish {
    if ($script:failed -gt 0) { Write-Output "$($script:failed) failed"; exit 1 }
    Write-Output "all is as the documents say"
    exit 0
}
if ($Phase -eq "before-reboot") {
    Remove-Item $told -ErrorAction SilentlyContinue
    $program = "$env:ProgramData\keepwell\$reboot.ps1"
    Set-Content -Encoding utf8 $program "Add-Content '$told' started`ntry { while (`$true) { Start-Sleep 1 } } finally { Start-Sleep 8; Add-Content '$told' stopped }"
    Registered $reboot "[services.slow]`ncommand = ['$program']`nstop = [{ signal = 'TERM', wait = '30s' }]"
    Look "it runs" (Wait-For "start" { (Test-Path $told) -and ((Get-Content $told) -contains "started") }) (& $Keepwell service status $reboot)
    Write-Output "now reboot, then: real-machine.ps1 -Phase after-reboot"
    Finish
}
if ($Phase -eq "after-reboot") {
    $words = @(Get-Content $told -ErrorAction SilentlyContinue)
    Look "a shutdown waited for a slow end, and the boot started it again" (($words -join ",") -eq "started,stopped,started") ($words -join ",")
    $down = Get-WinEvent -FilterHashtable @{ LogName = "Application"; ProviderName = "keepwell"; Id = 2 } -MaxEvents 5
    Look "the end at the shutdown was reported" (($down.Message -join "`n") -match $reboot) ($down.Message -join "`n")
    & $Keepwell service uninstall $reboot | Out-Null
    Remove-Item $told, "$env:ProgramData\keepwell\$reboot.ps1" -ErrorAction SilentlyContinue
    Finish
}

Program "hungry" '$all = @(); while ($true) { $all += ,(New-Object byte[] 10MB); Start-Sleep -Milliseconds 20 }'
Program "busy" 'while ($true) { }'
Program "parent" 'try { Start-Process cmd.exe -ArgumentList "/c exit" -ErrorAction Stop; "child started" } catch { "child refused" }; Start-Sleep 1000'
Program "break" '[Console]::TreatControlCAsInput = $true; "ready"; Start-Sleep 1000'
Program "many" 'while ($true) { cmd.exe /c "for /l %i in (1,1,20000) do @rem" }'
Program "words" 'param($a, $b) "got [$a] [$b]"; Start-Sleep 1000'
$deep = "$work\" + ("x" * 120) + "\" + ("y" * 120)
New-Item -ItemType Directory "\\?\$deep" -Force | Out-Null
Copy-Item "$env:SystemRoot\System32\cmd.exe" "\\?\$deep\deep.exe"
$share = "\\localhost\" + $work.Replace(":", "$")
Copy-Item "$env:SystemRoot\System32\cmd.exe" "$work\shared.exe"
@"
[defaults]
restart = "never"
[services.hungry]
command = ['$shell', '-NoProfile', '-File', '$work\hungry.ps1']
limits = { memory = "200MB" }
[services.busy]
command = ['$shell', '-NoProfile', '-File', '$work\busy.ps1']
limits = { cpu = "20%" }
[services.parent]
command = ['$shell', '-NoProfile', '-File', '$work\parent.ps1']
limits = { tasks = 1 }
[services.break]
command = ['$shell', '-NoProfile', '-File', '$work\break.ps1']
stop = [{ signal = "TERM", wait = "2s" }, { signal = "BREAK", wait = "10s" }]
[services.bound]
command = ['$shell', '-NoProfile', '-Command', 'Start-Sleep 1000']
nice = 15
affinity = "0"
[services.neighbour]
command = ['$shell', '-NoProfile', '-Command', 'Start-Sleep 1000']
[services.window]
command = 'notepad.exe'
[services.many]
command = ['$shell', '-NoProfile', '-File', '$work\many.ps1']
[services.words]
command = ['$work\words.ps1', 'two words', '`$plain']
[services.deep]
command = ['$deep\deep.exe', '/c', 'echo from deep']
[services.share]
command = ['$share\shared.exe', '/c', 'cd']
cwd = '$env:SystemRoot'
"@ | Set-Content -Encoding ascii keepwell.toml

& $Keepwell up --detach | Out-Null
try {
    $info = (& $Keepwell info) -join "`n"
    Look "jobs hold memory, cpu and tasks" ($info -match "limits: job objects \(memory, cpu, tasks\)") $info
    $told = Wait-For "memory" { ((& $Keepwell events hungry) -join "`n") -match "limits.memory" } 60
    Look "a tree that runs into its memory limit is told" $told (& $Keepwell explain hungry)
    Service busy | Out-Null; Start-Sleep 5
    $busy = (Service busy).cpu_percent
    Look "a busy loop is held to its share" ($busy -gt 1 -and $busy -lt 40) "cpu_percent $busy"
    Look "a process too many is refused" (Wait-For "refusal" { ((& $Keepwell logs parent) -join "`n") -match "child refused" }) (& $Keepwell logs parent)
    $bound = Get-Process -Id (Service bound).pid
    Look "nice is a priority class" ($bound.PriorityClass -eq "Idle") $bound.PriorityClass
    Look "affinity holds" ($bound.ProcessorAffinity -eq 1) $bound.ProcessorAffinity
    Service many | Out-Null; Start-Sleep 5
    Look "time of processes that ended counts" ((Service many).cpu_percent -gt 0) (Service many)
    Look "a .ps1 gets its arguments" (Wait-For "words" { ((& $Keepwell logs words) -join "`n").Contains('got [two words] [$plain]') }) (& $Keepwell logs words)
    Look "a program may have a long path" (Wait-For "deep" { ((& $Keepwell logs deep) -join "`n") -match "from deep" }) (& $Keepwell explain deep)
    Look "a program may be on a share" (Wait-For "share" { ((& $Keepwell logs share) -join "`n") -match "Windows" }) (& $Keepwell explain share)
    Wait-For "ready" { ((& $Keepwell logs break) -join "`n") -match "ready" } | Out-Null
    & $Keepwell stop break | Out-Null
    $why = (& $Keepwell explain break) -join "`n"
    Look "Ctrl+Break ends what ignores Ctrl+C" ($why -match "Ctrl\+Break to the main process: worked") $why
    Look "a neighbour hears nothing of it" ((Service neighbour).pid -gt 0) (Service neighbour)
    & $Keepwell stop window | Out-Null
    $why = (& $Keepwell explain window) -join "`n"
    Look "WM_CLOSE ends a program with a window" ($why -match "WM_CLOSE to the whole tree: worked") $why
}
finally {
    & $Keepwell down 2>$null | Out-Null
    Set-Location $env:TEMP
    Remove-Item -Recurse -Force "\\?\$work" -ErrorAction SilentlyContinue
}
$name = "keepwell-look"
try {
    & $Keepwell service add $name --now -- "$env:SystemRoot\System32\cmd.exe" /c "whoami & ping -n 1000 127.0.0.1 >nul" 2>$null | Out-Null
    $folder = "$env:ProgramData\keepwell\$name"
    $who = Wait-For "whoami" { (Get-Content "$folder\logs\$name.log" -ErrorAction SilentlyContinue) -match "nt service\\$name" }
    Look "a service has an account of its own" $who (Get-Content "$folder\anchor.log" -ErrorAction SilentlyContinue)
    $acl = (Get-Acl $folder).Access | ForEach-Object { $_.IdentityReference.Value } | Sort-Object -Unique
    Look "its folder is nobody else's" (($acl -join ",") -eq "BUILTIN\Administrators,NT AUTHORITY\SYSTEM,NT SERVICE\$name") ($acl -join ",")
    $sid = (sc.exe qsidtype $name) -join "`n"
    Look "it has a service SID" ($sid -match "UNRESTRICTED") $sid
    $privileges = (sc.exe qprivs $name) -join "`n"
    Look "it has the privileges that it needs" ($privileges -match "SeChangeNotifyPrivilege") $privileges
    $flag = (sc.exe qfailureflag $name) -join "`n"
    Look "it is restarted after errors, too" ($flag -match "TRUE") $flag
    $again = (& $Keepwell service install --name $name --config "$folder\keepwell.toml") -join "`n"
    Look "installed again it is as it should be" ($again -match "as it should be") $again
}
finally {
    & $Keepwell service remove $name --yes --purge 2>$null | Out-Null
}
# Two guardians that are services, one of which needs the other.
$first, $second = "keepwell-look-1", "keepwell-look-2"
try {
    $begin = Get-Date
    Registered $first "[services.bad]`ncommand = ['cmd.exe', '/c', 'exit 3']`nrestart = { delay = '100ms', limit = { max = 1, window = '60s' }, on_crash_loop = 'give_up' }`n[services.good]`ncommand = ['ping.exe', '-n', '100000', '127.0.0.1']`n[services.who]`ncommand = ['cmd.exe', '/c', 'whoami']`nuser = 'LocalService'`nrestart = 'never'"
    function Reported($id) {
        @(Get-WinEvent -FilterHashtable @{ LogName = "Application"; ProviderName = "keepwell"; Id = $id; StartTime = $begin } -ErrorAction SilentlyContinue)
    }
    Look "gave up is an error in the event log" (Wait-For "121" { (Reported 121).Count -gt 0 }) "no event 121"
    $gave_up = (Reported 121)[0]
    Look "with its level, its texts and the words around them" ($gave_up.Level -eq 2 -and $gave_up.Properties[0].Value -eq $first -and $gave_up.Properties[2].Value -eq "bad" -and $gave_up.Message -match "Guardian: $first") $gave_up.Message
    Look "crashes and retries are warnings, starts are information" ((Reported 110)[0].Level -eq 3 -and (Reported 112)[0].Level -eq 3 -and (Reported 100)[0].Level -eq 4) "other levels"
    $state = "$env:ProgramData\keepwell\$first"
    Look "LocalSystem starts a program as LocalService" (Wait-For "whoami" { (Get-Content "$state\logs\who.log" -ErrorAction SilentlyContinue) -match "local service" }) (& $Keepwell explain --state $state who)
    $actions = (sc.exe qfailure $first) -join "`n"
    Look "recovery actions are stored" ($actions -match "RESTART") $actions

    $control = (sc.exe control $first 200) -join "`n"
    Look "a control that nobody knows is refused" ($control -match "FAILED 120" -and (Get-Service $first).Status -eq "Running") $control

    $before = (Get-CimInstance Win32_Service -Filter "Name='$first'").ProcessId
    $ping = (Get-CimInstance Win32_Process -Filter "Name='PING.EXE'" | Where-Object { $_.CommandLine -match "100000" }).ProcessId
    Stop-Process -Id $before -Force
    Look "an anchor that is killed takes its programs with it" (Wait-For "end" { -not (Get-Process -Id $ping -ErrorAction SilentlyContinue) } 10) "ping $ping still runs"
    $back = Wait-For "again" { $now = (Get-CimInstance Win32_Service -Filter "Name='$first'"); $now.State -eq "Running" -and $now.ProcessId -ne $before } 90
    Look "and the manager starts it again" $back (sc.exe queryex $first)

    Registered $second "[services.web]`ncommand = ['ping.exe', '-n', '100000', '127.0.0.1']"
    & $Keepwell service install --name $second --config "$env:ProgramData\keepwell\$second\keepwell.toml" --account system --depends-on $first | Out-Null
    & $Keepwell service stop $second | Out-Null
    & $Keepwell service stop $first | Out-Null
    & $Keepwell service start $second | Out-Null
    Look "what a service depends on is started first" ((Get-Service $first).Status -eq "Running") (Get-Service $first).Status
    $refused = (& $Keepwell service stop $first 2>&1) -join "`n"
    Look "and is not stopped under it" ($LASTEXITCODE -ne 0 -and $refused -match $second) $refused
}
finally {
    foreach ($name in $second, $first) {
        & $Keepwell service uninstall $name 2>$null | Out-Null
        Remove-Item -Recurse -Force "$env:ProgramData\keepwell\$name" -ErrorAction SilentlyContinue
    }
}
$left = Test-Path "HKLM:\SYSTEM\CurrentControlSet\Services\EventLog\Application\keepwell"
$others = @(& $Keepwell service list --json | ConvertFrom-Json).Count
Look "the event log's source goes with the last service" (-not $left -or $others -gt 0) "it is still registered"
Finish
