;;; rch.el --- what rchctl finds, in compilation buffers and Flymake  -*- lexical-binding: t; -*-
;; Emacs 27 or newer. M-x rch-verify; (add-hook 'swift-mode-hook #'rch-flymake-setup).

(require 'compile)
(require 'flymake)
(require 'json)

(defvar rch-program "rchctl")

(add-to-list 'compilation-error-regexp-alist-alist
             '(rch "^\\(/[^:\n]+\\):\\([0-9]+\\):\\([0-9]+\\): \\(?:error\\|\\(warning\\)\\|\\(note\\)\\): "
                   1 2 3 (4 . 5)))

(define-compilation-mode rch-mode "rchctl"
  "What a run on a worker found."
  (setq-local compilation-error-regexp-alist '(rch)))

(defun rch-verify ()
  "Build and test the project of this folder on a worker."
  (interactive)
  (compilation-start (concat rch-program " verify --quiet --format errorfmt") #'rch-mode))

(defun rch--column (line column)
  "The character in LINE at which its byte COLUMN is, both from 1."
  (let ((bytes (encode-coding-string line 'utf-8)))
    (1+ (length (decode-coding-string
                 (substring bytes 0 (min (length bytes) (1- column))) 'utf-8)))))

(defun rch--diagnostic (finding)
  "The Flymake diagnostic of FINDING in the current buffer."
  (save-excursion
    (save-restriction
      (widen)
      (goto-char (point-min))
      (forward-line (1- (or (gethash "line" finding) 1)))
      (let* ((text (buffer-substring-no-properties (line-beginning-position) (line-end-position)))
             (column (gethash "column" finding))
             (region (flymake-diag-region (current-buffer) (line-number-at-pos)
                                          (and column (rch--column text column)))))
        (flymake-make-diagnostic
         (current-buffer) (car region) (cdr region)
         (pcase (gethash "severity" finding) ("error" :error) ("warning" :warning) (_ :note))
         (gethash "message" finding))))))

(defun rch-flymake (report &rest _)
  "Tell REPORT what the newest run found in this buffer's file."
  (let ((buffer (current-buffer))
        (file (file-truename buffer-file-name))
        (output (generate-new-buffer " *rch*")))
    (make-process
     :name "rchctl" :buffer output :noquery t :connection-type 'pipe :stderr (get-buffer-create " *rch-errors*")
     :command (list rch-program "diagnostics" "latest" "--format" "json")
     :sentinel
     (lambda (process _)
       (unless (process-live-p process)
         (unwind-protect
             (when (buffer-live-p buffer)
               (let* ((answer (with-current-buffer output (goto-char (point-min)) (json-parse-buffer :null-object nil)))
                      (data (gethash "data" answer)))
                 (with-current-buffer buffer
                   (funcall report
                            (mapcar #'rch--diagnostic
                                    (seq-filter (lambda (each)
                                                  (let ((place (gethash "file" each)))
                                                    (and place (string= (file-truename place) file))))
                                                (and data (gethash "findings" data))))))))
           (kill-buffer output)))))))

(defun rch-flymake-setup ()
  "Show in this buffer what the newest run found."
  (add-hook 'flymake-diagnostic-functions #'rch-flymake nil t)
  (flymake-mode 1))

(provide 'rch)
;;; rch.el ends here
