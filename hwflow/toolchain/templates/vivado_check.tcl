# SPDX-License-Identifier: Apache-2.0
# Runs build.tcl in a plain tclsh with commands that record their calls in place of Vivado's.
# It proves that the script is Tcl, that every command is one Vivado has, that no variable is
# unset, that each pin and port used belongs to a cell that was made and is connected once, and
# that every file it names is there. It proves nothing about what Vivado makes of it.

namespace eval stub {
  variable calls [list]
  variable cells [dict create]
  variable connected [dict create]
  # Interfaces and pins of the IP the design uses, by VLNV (version left out).
  variable pins {
    processing_system7 {FCLK_CLK0 FCLK_RESET0_N M_AXI_GP0_ACLK S_AXI_HP0_ACLK IRQ_F2P
                        M_AXI_GP0 S_AXI_HP0 DDR FIXED_IO}
    proc_sys_reset {slowest_sync_clk ext_reset_in aux_reset_in dcm_locked peripheral_aresetn
                    peripheral_reset interconnect_aresetn mb_reset}
    smartconnect {aclk aresetn S00_AXI M00_AXI}
  }
}

proc stub::note {args} {
  variable calls
  lappend calls $args
}

proc stub::option {words name default} {
  set at [lsearch -exact $words $name]
  return [expr {$at < 0 ? $default : [lindex $words [expr {$at + 1}]]}]
}

proc stub::pin {kind name} {
  variable cells
  set parts [split $name /]
  set cell [lindex $parts 0]
  if {![dict exists $cells $cell]} {
    error "$kind: there is no cell $cell"
  }
  if {[lindex $parts 1] ni [dict get $cells $cell]} {
    error "$kind: the cell $cell has no pin [lindex $parts 1]"
  }
  return $name
}

proc stub::connect {driver loads} {
  variable connected
  foreach load $loads {
    if {[dict exists $connected $load]} {
      error "$load is connected twice"
    }
    dict set connected $load $driver
  }
}

proc stub::files {names} {
  foreach name $names {
    if {![file exists $name]} {
      error "the file $name does not exist"
    }
  }
}

# Pins of a Verilog module of plain ports; AXI ports are seen as one interface each.
proc stub::module_pins {top} {
  variable sources
  foreach file $sources {
    set stream [open $file]
    set text [read $stream]
    close $stream
    if {[regexp "module\\s+$top\\M" $text]} {
      set names [list]
      foreach {- name} [regexp -all -inline {(?n)^\s*(?:input|output)\s+wire\s+(?:\[\d+:0\]\s+)?(\w+),?$} $text] {
        lappend names [regsub {^(s_axil|m_axi)_\w+$} $name {\1}]
      }
      return [lsort -unique $names]
    }
  }
  error "no source has the module $top"
}

proc create_project {name folder args} {
  stub::note create_project $name {*}$args
  file mkdir $folder
  set stub::project [list $name $folder]
}
proc create_bd_cell {args} {
  stub::note create_bd_cell {*}$args
  set name [lindex $args end]
  if {[stub::option $args -type ip] eq "module"} {
    set pins [stub::module_pins [stub::option $args -reference {}]]
  } else {
    set ip [lindex [split [stub::option $args -vlnv {}] :] 2]
    set pins [dict get $stub::pins $ip]
  }
  dict set stub::cells $name $pins
  return $name
}
proc add_files {args} {
  stub::note add_files {*}$args
  stub::files [lindex $args end]
  if {[stub::option $args -fileset {}] eq "sources_1"} {
    lappend stub::sources {*}[lindex $args end]
  }
}
proc get_bd_pins {name} { return [stub::pin get_bd_pins $name] }
proc get_bd_intf_pins {name} { return [stub::pin get_bd_intf_pins $name] }
proc get_bd_addr_spaces {name} { return $name }
proc get_bd_addr_segs {name} { return $name }
proc connect_bd_net {driver args} {
  stub::note connect_bd_net $driver {*}$args
  stub::connect $driver $args
}
proc connect_bd_intf_net {a b} {
  stub::note connect_bd_intf_net $a $b
  stub::connect $a [list $b]
  stub::connect $b [list $a]
}
proc make_wrapper {args} {
  stub::note make_wrapper {*}$args
  set file [file join [lindex $stub::project 1] system_wrapper.v]
  close [open $file w]
  return $file
}
proc generate_target {args} {
  stub::note generate_target {*}$args
  lassign $stub::project name folder
  set handoff [file join $folder $name.gen sources_1 bd system hw_handoff]
  file mkdir $handoff
  close [open [file join $handoff system.hwh] w]
}
proc launch_runs {run args} {
  stub::note launch_runs $run {*}$args
  if {$run eq "impl_1"} {
    close [open [file join [lindex $stub::project 1] system_wrapper.bit] w]
  }
}
proc get_property {name object} {
  stub::note get_property $name $object
  switch -exact -- $name {
    PROGRESS { return "100%" }
    STATUS { return "done" }
    STATS.WNS - STATS.WHS { return $stub::slack }
    DIRECTORY { return [lindex $stub::project 1] }
    CONFIG.PCW_ACT_FPGA0_PERIPHERAL_FREQMHZ { return $stub::clock_mhz }
    default { error "get_property: $name is not known to the check" }
  }
}
foreach name {get_files get_runs get_filesets} {
  proc $name {args} { return [lindex $args end] }
}
proc current_project {} { return [lindex $stub::project 0] }
foreach name {set_property update_compile_order create_bd_design apply_bd_automation
    assign_bd_address validate_bd_design save_bd_design wait_on_run open_run report_utilization
    report_timing_summary report_power close_project} {
  proc $name {args} "stub::note $name {*}\$args"
}

lassign $argv stub::script stub::clock_mhz stub::slack stub::calls_file
set argv [lrange $argv 4 end]
unset name
source $stub::script

set wanted {
  ps7 {M_AXI_GP0 M_AXI_GP0_ACLK IRQ_F2P}
  reset {slowest_sync_clk ext_reset_in}
  control {aclk aresetn S00_AXI M00_AXI}
  engine {aclk aresetn s_axil}
}
if {"m_axi" in [dict get $stub::cells engine]} {
  lappend wanted memory {aclk aresetn S00_AXI M00_AXI} ps7 {S_AXI_HP0 S_AXI_HP0_ACLK} engine m_axi
}
foreach {cell needed} $wanted {
  foreach pin $needed {
    if {![dict exists $stub::connected $cell/$pin]} {
      error "$cell/$pin is not connected"
    }
  }
}
set stream [open $stub::calls_file w]
foreach call $stub::calls {
  puts $stream $call
}
close $stream
puts "hwflow: the script runs to its end with stub commands ([llength $stub::calls] calls)"
