from trustescalate.cli import main

main()
