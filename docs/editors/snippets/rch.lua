-- Neovim 0.7 or newer: require('rch').setup(). Each write of a Swift file submits the project; a newer
-- write supersedes the run before it, and what the run found becomes diagnostics.
local M = { program = "rchctl", last = {} }

local namespace = vim.api.nvim_create_namespace("rch")
local current = 0

-- Runs rchctl and hands over its exit code and what it printed.
local function run(arguments, directory, done)
  local lines = {}
  vim.fn.jobstart(vim.list_extend({ M.program }, arguments), {
    cwd = directory,
    stdin = "null",
    stdout_buffered = true,
    on_stdout = function(_, data)
      lines = data
    end,
    on_exit = function(_, code)
      done(code, table.concat(lines, "\n"))
    end,
  })
end

-- Columns are UTF-16 units in the protocol, bytes in Neovim.
local function byte_column(buffer, position)
  local line = vim.api.nvim_buf_get_lines(buffer, position.line, position.line + 1, false)[1] or ""
  local ok, column = pcall(vim.str_byteindex, line, position.character, true)
  return ok and column or #line
end

-- Shows what the run found in the place of what was shown before.
function M.show(documents)
  vim.diagnostic.reset(namespace)
  for uri, found in pairs(documents) do
    local path = vim.uri_to_fname(uri)
    if vim.fn.isdirectory(path) == 1 then
      for _, each in ipairs(found) do
        vim.notify("rchctl: " .. each.message, each.severity == 1 and vim.log.levels.ERROR or vim.log.levels.WARN)
      end
    else
      local buffer, shown = vim.uri_to_bufnr(uri), {}
      vim.fn.bufload(buffer)
      for _, each in ipairs(found) do
        table.insert(shown, {
          lnum = each.range.start.line,
          col = byte_column(buffer, each.range.start),
          end_lnum = each.range["end"].line,
          end_col = byte_column(buffer, each.range["end"]),
          severity = each.severity,
          message = each.message,
          source = each.source,
          code = each.code,
        })
      end
      vim.diagnostic.set(namespace, buffer, shown)
    end
  end
end

-- Submits the project of the folder, waits for its run, and shows what it found.
function M.verify(directory)
  current = current + 1
  local mine = current
  local submit = { "submit", "--group", "save", "--supersede", "--origin", "editor" }
  run(submit, directory, function(code, output)
    local id = vim.trim(output)
    if code ~= 0 or mine ~= current then
      return
    end
    run({ "wait", id, "--quiet" }, directory, function(verdict)
      if mine ~= current then
        return
      end
      run({ "diagnostics", id, "--format", "lsp" }, directory, function(_, text)
        if mine == current and text ~= "" then
          M.show(vim.json.decode(text))
          M.last = { run_id = id, exit_code = verdict }
        end
      end)
    end)
  end)
end

function M.setup(options)
  M.program = (options or {}).program or M.program
  vim.api.nvim_create_autocmd("BufWritePost", {
    group = vim.api.nvim_create_augroup("rch", { clear = true }),
    pattern = "*.swift",
    callback = function(event)
      M.verify(vim.fn.fnamemodify(event.file, ":p:h"))
    end,
  })
end

return M
