" :compiler rchctl, then :make. The quickfix list has what the run found, at places of this machine.
if exists('current_compiler')
  finish
endif
let current_compiler = 'rchctl'

CompilerSet makeprg=rchctl\ verify\ --quiet\ --format\ errorfmt\ $*
CompilerSet errorformat=
      \%-G\ %.%#,
      \%f:%l:%c:\ %trror:\ %m,
      \%f:%l:%c:\ %tarning:\ %m,
      \%f:%l:%c:\ %tote:\ %m,
      \%trror:\ %m,
      \%tarning:\ %m,
      \%tote:\ %m,
      \%-G%.%#
