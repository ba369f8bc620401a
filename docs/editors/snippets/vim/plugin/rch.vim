" :RchVerify submits this folder's project and fills the quickfix list while the run goes on.
" Vim 8.2 or newer. A newer :RchVerify supersedes the one before it.
if exists('g:loaded_rch') || !has('job')
  finish
endif
let g:loaded_rch = 1
let g:rch_program = get(g:, 'rch_program', 'rchctl')
" How the last run ended: run_id, state, exit_code.
let g:rch_last = {}

let s:formats = '%f:%l:%c: %trror: %m,%f:%l:%c: %tarning: %m,%f:%l:%c: %tote: %m,'
      \ . '%trror: %m,%tarning: %m,%tote: %m,%-G%.%#'
let s:current = ''

function! s:Submitted(channel, run) abort
  let s:current = a:run
  call job_start([g:rch_program, 'watch', a:run, '--format', 'errorfmt'],
        \ {'in_io': 'null', 'out_cb': {_, line -> s:Line(a:run, line)}})
endfunction

function! s:Line(run, line) abort
  if a:run !=# s:current
    return
  endif
  if a:line =~# '^rchctl: begin '
    call setqflist([], ' ', {'title': 'rchctl ' . a:run, 'items': []})
  elseif a:line =~# '^rchctl: end '
    let [l:id, l:state, l:code] = split(a:line)[2:4]
    let g:rch_last = {'run_id': l:id, 'state': l:state, 'exit_code': str2nr(l:code)}
    echomsg 'rchctl: ' . l:state . ', ' . len(getqflist()) . ' in the quickfix list'
  else
    call setqflist([], 'a', {'lines': [a:line], 'efm': s:formats})
  endif
endfunction

function! s:Verify() abort
  let g:rch_last = {}
  call job_start(
        \ [g:rch_program, 'submit', '--group', 'save', '--supersede', '--origin', 'editor'],
        \ {'in_io': 'null', 'cwd': getcwd(), 'out_cb': function('s:Submitted'),
        \  'err_cb': {_, line -> execute('echomsg ' . string(line), '')}})
endfunction

command! RchVerify call s:Verify()
