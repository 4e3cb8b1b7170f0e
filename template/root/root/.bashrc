case $- in *i*) ;; *) return ;; esac
alias ls='ls --color=auto'
